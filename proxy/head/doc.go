// Package head has what the heads of HTTP/2 and HTTP/3 share: field lists with pseudo-header fields (RFC 9113 section 8,
// RFC 9114 section 4), turned into the parts of Requests and Responses and back, with every rule on what such a list may hold. How a list is
// compressed and framed is the codecs' matter: a codec feeds a Decoder line by line, and is fed by an Encoder.
//
// # Between two pillions
//
// With Verbatim set, as both codecs do once each end knows the other for a pillion, names keep the case and order in which
// they came, Host stays in its place beside :authority and Content-Length in its own, an HTTP/1 reason phrase that is not customary
// is a field named ":reason" after :status, and a 2xx to CONNECT that is an ordinary answer and no agreement carries
// ":declined". Without it upper case makes a message malformed.
package head
