package spans

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// The wire types of protobuf.
const (
	typeVarint  = 0
	typeFixed64 = 1
	typeBytes   = 2
	typeFixed32 = 5
)

// maxText bounds a text in a span, in bytes.
const maxText = 1 << 10

// AppendBytes appends a field of bytes, or of an embedded message.
func AppendBytes(b []byte, field int, v []byte) []byte {
	return append(appendLen(b, field, len(v)), v...)
}

// AppendString appends the attribute key = v, as element of a field of KeyValues. Text that is no UTF-8, which a message may not hold, is mended.
func AppendString(b []byte, field int, key, v string) []byte {
	v = clean(v)
	value := 1 + size(len(v)) + len(v)
	b = appendKey(b, field, key, value)
	return appendText(b, 1, v)
}

func appendInt(b []byte, field int, key string, n int64) []byte {
	value := 1 + (bits.Len64(uint64(n)|1)+6)/7
	b = appendKey(b, field, key, value)
	return binary.AppendUvarint(append(b, 3<<3|typeVarint), uint64(n))
}

// appendKey begins a KeyValue whose AnyValue takes value bytes.
func appendKey(b []byte, field int, key string, value int) []byte {
	b = appendLen(b, field, 1+size(len(key))+len(key)+1+size(value)+value)
	b = appendText(b, 1, key)
	return appendLen(b, 2, value)
}

func appendText(b []byte, field int, v string) []byte {
	return append(appendLen(b, field, len(v)), v...)
}

// appendLen begins a field of n bytes.
func appendLen(b []byte, field, n int) []byte {
	return binary.AppendUvarint(append(b, byte(field<<3|typeBytes)), uint64(n))
}

func appendEnum(b []byte, field int, n uint64) []byte {
	return binary.AppendUvarint(append(b, byte(field<<3|typeVarint)), n)
}

func appendFixed64(b []byte, field int, n uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, byte(field<<3|typeFixed64)), n)
}

// appendFixed32 is for fields above 15, whose tags take two bytes.
func appendFixed32(b []byte, field int, n uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.AppendUvarint(b, uint64(field<<3|typeFixed32)), n)
}

// size is how many bytes n takes as a varint.
func size(n int) int { return (bits.Len(uint(n)|1) + 6) / 7 }

func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if len(s) > 0 && s[len(s)-1] >= utf8.RuneSelf {
			s = s[:len(s)-1]
		}
	}
	if !utf8.ValidString(s) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
