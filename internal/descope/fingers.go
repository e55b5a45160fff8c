package descope

import (
	"strings"
	"unicode"
)

// CleanCode returns a code as it is meant: what authenticator apps show in groups, and
// phones type or paste with marks that nobody sees, in digits of any script.
func CleanCode(code string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case isBlank(r) || unicode.Is(unicode.Dash, r):
			return -1
		case unicode.Is(unicode.Nd, r):
			return '0' + digitOf(r)
		}
		return r
	}, code)
}

// CleanLoginID returns a login id without what completion and pasting leave at its ends. Its
// case stays: only Descope knows whether it matters.
func CleanLoginID(id string) string { return strings.TrimFunc(id, isBlank) }

// isBlank reports whether a character cannot be seen: white space, and what only directs
// how others are shown.
func isBlank(r rune) bool {
	return unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// digitOf returns the value of a decimal digit. Those of a script stand in a row from 0 to 9
// (The Unicode Standard, section 4.6), and rows that touch are one range of the table.
func digitOf(r rune) rune {
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return (r - rune(t.Lo)) % 10
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return (r - rune(t.Lo)) % 10
		}
	}
	return 0
}
