package devca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// TrustDomain is that of a CA made by Open.
const TrustDomain = "pillion.local"

// DefaultLifetime is that of a certificate issued without IssueOptions.For.
const DefaultLifetime = 24 * time.Hour

const (
	keyFile  = "ca.key"
	certFile = "ca.crt"
	lifetime = 10 * 365 * 24 * time.Hour // of the root
	// skew is how far a certificate's beginning lies in the past, for peers whose clocks are behind.
	skew = time.Minute
)

// CA can issue certificates. It is safe for concurrent use.
type CA struct {
	dir         string
	trustDomain string
	key         *ecdsa.PrivateKey
	cert        *x509.Certificate
	certPEM     []byte
	now         func() time.Time
}

// DefaultDir is where the CA lives if nothing else is said: $XDG_DATA_HOME/pillion/ca, else
// $HOME/.local/share/pillion/ca. getenv is os.Getenv but in tests.
func DefaultDir(getenv func(string) string) (string, error) {
	// "All paths set in these environment variables must be absolute. If an implementation encounters a
	// relative path […] it should consider the path invalid and ignore it." (XDG Base Directory Specification)
	if data := getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "pillion", "ca"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "pillion", "ca"), nil
	}
	return "", errors.New("no place for the development CA: neither XDG_DATA_HOME nor HOME is set; name a directory")
}

// Open opens the CA in dir, and makes it, for the trust domain TrustDomain, if there is none; created says so.
func Open(dir string) (ca *CA, created bool, err error) { return OpenFor(dir, TrustDomain) }

// OpenFor is Open with a trust domain for the CA that it may make. An existing CA of another one is an error.
func OpenFor(dir, trustDomain string) (ca *CA, created bool, err error) {
	if err := proxy.CheckTrustDomain(trustDomain); err != nil {
		return nil, false, fmt.Errorf("open CA in %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("open CA: %w", err)
	}
	path := filepath.Join(dir, keyFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if created, err = create(path, trustDomain, time.Now()); err != nil {
			return nil, false, fmt.Errorf("create CA in %s: %w", dir, err)
		}
	}
	ca, err = load(dir)
	if err != nil {
		return nil, false, fmt.Errorf("open CA: %w", err)
	}
	if ca.trustDomain != trustDomain {
		return nil, false, fmt.Errorf("open CA: that in %s is for the trust domain %q, not %q: use another directory", dir, ca.trustDomain, trustDomain)
	}
	return ca, created, nil
}

// create writes a new key and certificate to path, unless another process does so first.
func create(path, trustDomain string, now time.Time) (created bool, err error) {
	content, err := generate(trustDomain, now)
	if err != nil {
		return false, err
	}
	temp, err := writeTemp(path, content, 0o600)
	if err != nil {
		return false, err
	}
	defer os.Remove(temp)
	// A link, unlike a rename, fails if the name is taken: the first of several processes wins, whole.
	err = os.Link(temp, path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// generate makes the content of ca.key.
func generate(trustDomain string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial is part of the name, so that two CAs are told apart by name too.
		Subject:               pkix.Name{Organization: []string{"pillion"}, CommonName: fmt.Sprintf("pillion development CA %x", serial.Bytes()[:4])},
		NotBefore:             now.Add(-skew).UTC().Truncate(time.Second),
		NotAfter:              now.Add(lifetime).UTC().Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(keyPEM, encodeCert(der)...), nil
}

// load reads and checks ca.key, and writes ca.crt if it is not what it should be.
func load(dir string) (*CA, error) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it, and if others had access make a new CA", path, mode)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ca := &CA{dir: dir, now: time.Now}
	if err := ca.decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	public := filepath.Join(dir, certFile)
	if have, err := os.ReadFile(public); err != nil || !bytes.Equal(have, ca.certPEM) {
		temp, err := writeTemp(public, ca.certPEM, 0o644)
		if err != nil {
			return nil, err
		}
		if err := os.Rename(temp, public); err != nil {
			return nil, err
		}
	}
	return ca, nil
}

func (ca *CA) decode(data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return err
			}
			ca.key, _ = key.(*ecdsa.PrivateKey)
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err
			}
			ca.cert, ca.certPEM = cert, encodeCert(block.Bytes)
		}
	}
	switch {
	case ca.key == nil:
		return errors.New("it holds no ECDSA private key")
	case ca.cert == nil:
		return errors.New("it holds no certificate")
	case !ca.key.PublicKey.Equal(ca.cert.PublicKey):
		return errors.New("its key and its certificate do not belong together")
	case !ca.cert.IsCA || len(ca.cert.URIs) != 1:
		return errors.New("its certificate is not that of a development CA")
	case ca.now().After(ca.cert.NotAfter):
		return fmt.Errorf("the CA expired at %s: remove the directory and let it be made anew", ca.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	ca.trustDomain = ca.cert.URIs[0].Host
	return nil
}

// Dir is where the CA lives.
func (ca *CA) Dir() string { return ca.dir }

// TrustDomain is whose identities the CA can issue.
func (ca *CA) TrustDomain() string { return ca.trustDomain }

// Roots is the CA's certificate as PEM: what every peer must trust.
func (ca *CA) Roots() []byte { return bytes.Clone(ca.certPEM) }

// RootsFile is the path of the file that holds Roots.
func (ca *CA) RootsFile() string { return filepath.Join(ca.dir, certFile) }

// NotAfter is when the CA itself ends.
func (ca *CA) NotAfter() time.Time { return ca.cert.NotAfter }

// Fingerprint is the SHA-256 of the CA's certificate in lower-case hex.
func (ca *CA) Fingerprint() string {
	sum := sha256.Sum256(ca.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// writeTemp writes a new file beside path, durably, and returns its name.
func writeTemp(path string, content []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// newSerial is positive, 127 random bits.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
