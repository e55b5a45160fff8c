// Package fading has a map whose entries end: each by itself when its time is up, and
// the oldest when there are too many. It is for what may be forgotten, at the price of
// a call to Descope or a question to the user; what must not be has no place in it.
package fading

import (
	"container/list"
	"time"
)

// A Map forgets entries when their time is up and, when it is full, the one that was
// put in first. Make one with [New]. It is not safe for concurrent use: who has one
// has a lock for more than this.
type Map[K comparable, V any] struct {
	limit   int
	entries map[K]*list.Element
	order   *list.List // of entry, oldest first
}

type entry[K comparable, V any] struct {
	key   K
	value V
	until time.Time
}

// New returns a Map of at most limit entries.
func New[K comparable, V any](limit int) Map[K, V] {
	return Map[K, V]{limit: limit, entries: make(map[K]*list.Element), order: list.New()}
}

// Get returns the value of key, and whether there is one that has not ended.
func (m *Map[K, V]) Get(key K, now time.Time) (value V, ok bool) {
	e, ok := m.entries[key]
	if !ok {
		return value, false
	}
	found := e.Value.(entry[K, V])
	if !now.Before(found.until) {
		m.Drop(key)
		return value, false
	}
	return found.value, true
}

// Put stores value until keep has passed from now on. It takes the place of an older
// value of the key, and counts as the newest entry then.
func (m *Map[K, V]) Put(key K, value V, now time.Time, keep time.Duration) {
	m.Drop(key)
	m.entries[key] = m.order.PushBack(entry[K, V]{key, value, now.Add(keep)})
	for oldest := m.order.Front(); oldest != nil; oldest = m.order.Front() {
		found := oldest.Value.(entry[K, V])
		if len(m.entries) <= m.limit && now.Before(found.until) {
			return
		}
		m.Drop(found.key)
	}
}

// Drop forgets key.
func (m *Map[K, V]) Drop(key K) {
	if e, ok := m.entries[key]; ok {
		m.order.Remove(e)
		delete(m.entries, key)
	}
}

// Trim drops the oldest entries that match, up to the first that does not.
func (m *Map[K, V]) Trim(match func(V) bool) {
	for oldest := m.order.Front(); oldest != nil; oldest = m.order.Front() {
		found := oldest.Value.(entry[K, V])
		if !match(found.value) {
			return
		}
		m.Drop(found.key)
	}
}

// DropFunc drops all entries that match.
func (m *Map[K, V]) DropFunc(match func(V) bool) {
	for key, e := range m.entries {
		if match(e.Value.(entry[K, V]).value) {
			m.Drop(key)
		}
	}
}

// Each visits all values, ended ones that were not dropped yet included, in no order.
func (m *Map[K, V]) Each(visit func(V)) {
	for _, e := range m.entries {
		visit(e.Value.(entry[K, V]).value)
	}
}

// Len returns how many entries are kept.
func (m *Map[K, V]) Len() int { return len(m.entries) }
