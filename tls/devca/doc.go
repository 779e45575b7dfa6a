// Package devca is the development CA: one root certificate and its key in a directory that only its owner can
// read, made on first use, from which every sidecar of one machine, or of one team, gets its certificate. It
// is not for production: whoever can read the key can be anybody in the mesh.
//
// The directory holds two files. ca.key (mode 0600) has the key and the certificate; it appears in one
// atomic step, so that several processes may open the directory for the first time at once. ca.crt has the certificate alone, for
// whoever must trust it; it is written anew if it is gone.
package devca
