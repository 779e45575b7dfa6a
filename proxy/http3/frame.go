package http3

import (
	"fmt"

	"github.com/quic-go/quic-go/quicvarint"
)

// Frame types, RFC 9114 section 7.2 and section 11.2.1.
const (
	frameData        = 0x0
	frameHeaders     = 0x1
	frameCancelPush  = 0x3
	frameSettings    = 0x4
	framePushPromise = 0x5
	frameGoAway      = 0x7
	frameMaxPushID   = 0xd
)

// reservedFrame reports the types of HTTP/2 that have no counterpart. RFC 9114 section 7.2.8: "These frame types MUST NOT be
// sent, and their receipt MUST be treated as a connection error of type H3_FRAME_UNEXPECTED."
func reservedFrame(typ uint64) bool { return typ == 0x2 || typ == 0x6 || typ == 0x8 || typ == 0x9 }

// Types of unidirectional streams, RFC 9114 section 6.2 and RFC 9204 section 4.2.
const (
	streamControl      = 0x0
	streamPush         = 0x1
	streamQPACKEncoder = 0x2
	streamQPACKDecoder = 0x3
)

// Settings, RFC 9114 section 7.2.4.1, RFC 9204 section 5, RFC 9220 section 3, RFC 9297 section 2.1.1.
const (
	settingMaxFieldSection = 0x6
	settingConnectProtocol = 0x8
	settingDatagram        = 0x33
	settingPillion         = 0xf1c0 // see the package comment
	pillionVersion         = 1
	maxSettings            = 128     // in the frame; more is not honest
	maxSettingsLen         = 4 << 10 // bytes
)

// reservedSetting reports the settings of HTTP/2 that have no counterpart, RFC 9114 section 7.2.4.1.
func reservedSetting(id uint64) bool { return id == 0x0 || id >= 0x2 && id <= 0x5 }

// maxStreamID is above every id of a request's stream: what a first GOAWAY says.
const maxStreamID = 1<<62 - 4

// appendFrameHeader appends type and length of a frame.
func appendFrameHeader(b []byte, typ uint64, length int64) []byte {
	return quicvarint.Append(quicvarint.Append(b, typ), uint64(length))
}

// appendNumberFrame appends a frame whose payload is one number.
func appendNumberFrame(b []byte, typ, v uint64) []byte {
	return quicvarint.Append(appendFrameHeader(b, typ, int64(quicvarint.Len(v))), v)
}

func appendSetting(b []byte, id, v uint64) []byte {
	return quicvarint.Append(quicvarint.Append(b, id), v)
}

// ErrCode is the reason for the end of a stream or a connection: RFC 9114 section 8.1, RFC 9204 section 6, RFC 9297 section 5.2.
type ErrCode uint64

const (
	ErrDatagram             ErrCode = 0x33
	ErrNo                   ErrCode = 0x100
	ErrGeneralProtocol      ErrCode = 0x101
	ErrInternal             ErrCode = 0x102
	ErrStreamCreation       ErrCode = 0x103
	ErrClosedCriticalStream ErrCode = 0x104
	ErrFrameUnexpected      ErrCode = 0x105
	ErrFrame                ErrCode = 0x106
	ErrExcessiveLoad        ErrCode = 0x107
	ErrID                   ErrCode = 0x108
	ErrSettings             ErrCode = 0x109
	ErrMissingSettings      ErrCode = 0x10a
	ErrRequestRejected      ErrCode = 0x10b
	ErrRequestCancelled     ErrCode = 0x10c
	ErrRequestIncomplete    ErrCode = 0x10d
	ErrMessage              ErrCode = 0x10e
	ErrConnect              ErrCode = 0x10f
	ErrVersionFallback      ErrCode = 0x110
	ErrDecompression        ErrCode = 0x200
	ErrEncoderStream        ErrCode = 0x201
	ErrDecoderStream        ErrCode = 0x202
)

// String returns the name of the code in its RFC.
func (e ErrCode) String() string {
	names := [...]string{"H3_NO_ERROR", "H3_GENERAL_PROTOCOL_ERROR", "H3_INTERNAL_ERROR", "H3_STREAM_CREATION_ERROR",
		"H3_CLOSED_CRITICAL_STREAM", "H3_FRAME_UNEXPECTED", "H3_FRAME_ERROR", "H3_EXCESSIVE_LOAD", "H3_ID_ERROR", "H3_SETTINGS_ERROR",
		"H3_MISSING_SETTINGS", "H3_REQUEST_REJECTED", "H3_REQUEST_CANCELLED", "H3_REQUEST_INCOMPLETE", "H3_MESSAGE_ERROR",
		"H3_CONNECT_ERROR", "H3_VERSION_FALLBACK"}
	switch {
	case e >= ErrNo && e <= ErrVersionFallback:
		return names[e-ErrNo]
	case e == ErrDatagram:
		return "H3_DATAGRAM_ERROR"
	case e == ErrDecompression:
		return "QPACK_DECOMPRESSION_FAILED"
	case e == ErrEncoderStream:
		return "QPACK_ENCODER_STREAM_ERROR"
	case e == ErrDecoderStream:
		return "QPACK_DECODER_STREAM_ERROR"
	}
	return fmt.Sprintf("error code %#x", uint64(e))
}
