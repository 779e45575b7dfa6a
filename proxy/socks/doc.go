// Package socks reads and writes the messages of SOCKS5 (RFC 1928, with the user names of RFC 1929 and the header of its UDP datagrams) and of
// SOCKS4, with the names of SOCKS4a. It works on bytes: listeners/local has the connection, and decides.
//
// Every Parse function takes what has arrived so far. It returns how many bytes the message took; 0 without an error means that more
// of them are needed.
package socks
