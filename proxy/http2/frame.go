package http2

import (
	"encoding/binary"
	"fmt"
)

// frameType is the type of a frame, RFC 9113 section 6.
type frameType uint8

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameRST          frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

const (
	flagEndStream  uint8 = 0x1
	flagAck        uint8 = 0x1
	flagEndHeaders uint8 = 0x4
	flagPadded     uint8 = 0x8
	flagPriority   uint8 = 0x20
)

const (
	frameHeaderLen = 9       // bytes
	minMaxFrame    = 1 << 14 // bytes
	maxMaxFrame    = 1<<24 - 1
	initialWindow  = 65535 // bytes
	maxWindow      = 1<<31 - 1
	maxConnWindow  = 1 << 28 // bytes, of Config.ConnWindow
	maxStreamID    = 1<<31 - 1
	// preface opens a client's connection, RFC 9113 section 3.4.
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// ErrCode is the reason in RST_STREAM and GOAWAY, RFC 9113 section 7.
type ErrCode uint32

const (
	ErrNo                 ErrCode = 0x0
	ErrProtocol           ErrCode = 0x1
	ErrInternal           ErrCode = 0x2
	ErrFlowControl        ErrCode = 0x3
	ErrSettingsTimeout    ErrCode = 0x4
	ErrStreamClosed       ErrCode = 0x5
	ErrFrameSize          ErrCode = 0x6
	ErrRefusedStream      ErrCode = 0x7
	ErrCancel             ErrCode = 0x8
	ErrCompression        ErrCode = 0x9
	ErrConnect            ErrCode = 0xa
	ErrEnhanceYourCalm    ErrCode = 0xb
	ErrInadequateSecurity ErrCode = 0xc
	ErrHTTP11Required     ErrCode = 0xd
)

// String returns the name of the code in RFC 9113.
func (e ErrCode) String() string {
	names := [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
		"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
		"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("error code %#x", uint32(e))
}

// ConnError is why a Conn ended because of a broken rule.
type ConnError struct {
	Code   ErrCode
	Reason string // what was wrong
	Peer   bool   // the peer says so, in a GOAWAY
}

// Error returns the code and the reason.
func (e *ConnError) Error() string {
	if e.Peer {
		return fmt.Sprintf("peer closed the HTTP/2 connection: %s: %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("HTTP/2 connection error: %s: %s", e.Code, e.Reason)
}

// StreamReset is the cause in a *proxy.Error where a stream was reset.
type StreamReset struct {
	Code ErrCode
	Peer bool // the peer reset it
}

// Error says who reset the stream, and why.
func (e StreamReset) Error() string {
	if e.Peer {
		return "stream reset by peer: " + e.Code.String()
	}
	return "stream reset: " + e.Code.String()
}

// frameHeader is the head of a frame, RFC 9113 section 4.1.
type frameHeader struct {
	length int
	typ    frameType
	flags  uint8
	id     uint32
}

func (h *frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

// parseFrameHeader reads the first 9 bytes of b.
func parseFrameHeader(b []byte) frameHeader {
	_ = b[8]
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    frameType(b[3]),
		flags:  b[4],
		id:     binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func appendFrameHeader(b []byte, length int, typ frameType, flags uint8, id uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(typ), flags,
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// putFrameLength corrects the length of the frame whose header b begins with.
func putFrameLength(b []byte, length int) {
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
}

func appendRST(b []byte, id uint32, code ErrCode) []byte {
	b = appendFrameHeader(b, 4, frameRST, 0, id)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, id, n uint32) []byte {
	b = appendFrameHeader(b, 4, frameWindowUpdate, 0, id)
	return binary.BigEndian.AppendUint32(b, n)
}

func appendPing(b []byte, flags uint8, payload uint64) []byte {
	b = appendFrameHeader(b, 8, framePing, flags, 0)
	return binary.BigEndian.AppendUint64(b, payload)
}

func appendGoAway(b []byte, last uint32, code ErrCode, debug string) []byte {
	b = appendFrameHeader(b, 8+len(debug), frameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

// settingID names a setting, RFC 9113 section 6.5.2.
type settingID uint16

const (
	settingHeaderTableSize  settingID = 0x1
	settingEnablePush       settingID = 0x2
	settingMaxStreams       settingID = 0x3
	settingInitialWindow    settingID = 0x4
	settingMaxFrame         settingID = 0x5
	settingMaxHeaderList    settingID = 0x6
	settingConnectProtocol  settingID = 0x8    // RFC 8441 section 3
	settingPillion          settingID = 0xf1c0 // see the package comment
	settingLen                        = 6      // bytes
	maxSettings                       = 128    // settings in one frame; more is not honest
	pillionVersion                    = 1
	defaultPeerMaxStreams             = 100 // assumed until the peer's SETTINGS are there
	defaultHeaderTableSize            = 4096
	maxEncoderTable                   = 4096 // we use no more even where the peer allows it
	unlimitedPeerHeaderList           = 1<<32 - 1
)

func appendSetting(b []byte, id settingID, v uint32) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(id))
	return binary.BigEndian.AppendUint32(b, v)
}
