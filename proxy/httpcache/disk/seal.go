package disk

import (
	"encoding/binary"
	"hash/crc64"
)

// A file is: magic, the checksum of all that follows, the length of the key, the key, the value.
const (
	magic      = "pillion cache 1\n"
	headLength = len(magic) + 8 + 4
)

func checksum(b []byte) uint64 { return crc64.Checksum(b, crc64.MakeTable(crc64.ECMA)) }

// seal makes the content of a file.
func seal(value []byte, key string) []byte {
	b := make([]byte, 0, headLength+len(key)+len(value))
	b = append(b, magic...)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = append(b, key...)
	b = append(b, value...)
	binary.LittleEndian.PutUint64(b[len(magic):], checksum(b[len(magic)+8:]))
	return b
}

// open returns the value of a file, if it is whole and the key's.
func open(b []byte, key string) ([]byte, bool) {
	k, value, ok := parts(b)
	return value, ok && k == key
}

// parts returns what a file holds, if it is whole.
func parts(b []byte) (key string, value []byte, ok bool) {
	if len(b) < headLength || string(b[:len(magic)]) != magic || binary.LittleEndian.Uint64(b[len(magic):]) != checksum(b[len(magic)+8:]) {
		return "", nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b[len(magic)+8:]))
	rest := b[headLength:]
	if n > int64(len(rest)) {
		return "", nil, false
	}
	return string(rest[:n]), rest[n:], true
}
