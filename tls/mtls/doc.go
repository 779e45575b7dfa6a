// Package mtls says who this process is and who its peers are: it holds the certificate, its key and the
// roots behind an atomic snapshot, makes the two tls.Configs of every Link, and turns a verified certificate into a
// proxy.Identity by the rules of the SPIFFE X.509-SVID standard.
//
// TLS 1.3 only, both sides always, no server name sent, no session resumption: each connection is verified anew
// against the roots of that moment. Host names in certificates play no part.
//
// A Source made by New reads files and, while Run runs, follows their changes; one made by NewIssued asks
// an issuer and renews at two thirds of the lifetime. A tls.Config taken from a Source stays good for ever: it looks at the snapshot of the
// moment at each handshake, so that a rotation touches no open Link.
//
// https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
package mtls
