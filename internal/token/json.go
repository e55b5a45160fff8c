package token

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// decodeObject reads one JSON object with nothing after it; see readMembers. It
// is a json.Unmarshal that lets what is decoded into stay off the heap.
func decodeObject(raw []byte, read memberReader) error {
	d := decoders.Get().(*objectDecoder)
	defer decoders.Put(d)
	d.input = *bytes.NewBuffer(raw)
	d.Reset(&d.input)
	err := readMembers(&d.Decoder, read)
	if err == nil {
		if _, end := d.ReadToken(); end != io.EOF {
			err = errNotObject
		}
	}
	d.input = bytes.Buffer{}
	d.Reset(&d.input) // lets go of raw
	return err
}

// An objectDecoder is used again and again: a decoder's buffers cost more than decoding a
// token does.
type objectDecoder struct {
	jsontext.Decoder
	input bytes.Buffer
}

var decoders = sync.Pool{New: func() any { return new(objectDecoder) }}

// A memberReader reads the value of a member if it knows its name.
type memberReader = func(name []byte, dec *jsontext.Decoder) (known bool, err error)

// readMembers reads one JSON object and has read take the values of the members
// it knows by name; the others are skipped. The decoder refuses duplicate names
// and invalid UTF-8. A name that read would know in lower case is refused here,
// because another reader of the same token might take it for that one.
func readMembers(dec *jsontext.Decoder, read memberReader) error {
	return EachMember(dec, func(quoted jsontext.Value) error {
		name, err := unquote(quoted)
		if err != nil {
			return err
		}
		if known, err := read(name, dec); known || err != nil {
			return err
		}
		if !isLower(name) {
			if known, _ := read(bytes.Map(foldRune, name), dec); known {
				return errName
			}
		}
		return dec.SkipValue()
	})
}

// isLower reports whether name is its own fold: ASCII without capital letters,
// as all registered names are. It spares nearly all names the folding.
func isLower(name []byte) bool {
	for _, c := range name {
		if c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// foldRune returns the lower-case ASCII letter that [strings.EqualFold] takes for
// r, which need not be ASCII itself (a long s, the Kelvin sign), or else r.
func foldRune(r rune) rune {
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if 'a' <= f && f <= 'z' {
			return f
		}
	}
	return r
}

// EachMember reads one JSON object, without a copy of it in memory: what is decoded is as
// large as whoever sent it liked. visit is given the quoted name of each member, valid
// until it reads on, and must read the member's value. How deep values may be nested is
// bounded by the decoder.
func EachMember(dec *jsontext.Decoder, visit func(quoted jsontext.Value) error) error {
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '{' {
		return errNotObject
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := visit(quoted); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

var errNotObject = errors.New("not a JSON object")

// unquote returns the text of a JSON string, without a copy where nothing in it
// is escaped.
func unquote(v jsontext.Value) ([]byte, error) {
	if v.Kind() != '"' {
		return nil, errType
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return nil, errType
	}
	return s, nil
}

// stringValue copies, because what unquote returns is the decoder's buffer.
func stringValue(v jsontext.Value) (string, error) {
	s, err := unquote(v)
	return string(s), err
}

// readString takes nothing but a string: a number that looks like the same text is another
// value to another reader.
func readString(dec *jsontext.Decoder) (string, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return "", err
	}
	return stringValue(v)
}

// readOptionalString takes a value of another type for none.
func readOptionalString(dec *jsontext.Decoder) (string, error) {
	if dec.PeekKind() != '"' {
		return "", dec.SkipValue()
	}
	return readString(dec)
}

// decodeFailure returns our own failure if the decoder passes one on, and
// otherwise the given one: the decoder's texts quote the token.
func decodeFailure(err error, other *problem.Failure) error {
	var f *problem.Failure
	if errors.As(err, &f) {
		return f
	}
	return other
}
