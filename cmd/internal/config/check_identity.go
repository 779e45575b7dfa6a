package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/tls/devca"
)

// checkIdentity finds the trust domain, makes paths absolute and names into SPIFFE IDs.
func (d *decoder) checkIdentity(c *Config) {
	id := &c.Identity
	d.checkFiles(id)
	const key = "identity.trust_domain"
	switch n := d.places[key]; {
	case n != nil:
		if err := checkTrustDomain(id.TrustDomain); err != nil && !d.bad[key] {
			d.report(n, key, "%v", err)
		}
	case id.Cert == "":
		id.TrustDomain = devca.TrustDomain
		if domain, err := CATrustDomain(id.DevCA); err == nil {
			id.TrustDomain = domain
		}
	case !d.bad["identity.cert"]:
		who, err := identityIn(id.Cert)
		if err != nil {
			d.report(d.places["identity.cert"], "identity.cert", "%v", err)
			break
		}
		id.TrustDomain = who.TrustDomain()
		if own := proxy.NewIdentity(id.TrustDomain, c.Service); c.Service != "" && who != own {
			d.warn(c, "identity.cert", "holds %s, but the service is %s; peers that expect %s will refuse it", who, c.Service, own)
		}
	}
	for i := range c.App {
		path := sub(d.appPath(i), "allow")
		for j, who := range c.App[i].Allow {
			at := fmt.Sprintf("%s[%d]", path, j)
			if d.places[at] == nil {
				at = path
			}
			c.App[i].Allow[j] = d.expand(c, at, who)
		}
	}
	for i, p := range c.Admin.Share {
		at := fmt.Sprintf("admin.share[%d]", i)
		if d.places[at] == nil {
			at = "admin.share"
		}
		begin, open := strings.CutSuffix(string(p), "*")
		if id := d.expand(c, at, proxy.Identity(begin)); open {
			c.Admin.Share[i] = proxy.IdentityPattern(id) + "*"
		} else {
			c.Admin.Share[i] = proxy.IdentityPattern(id)
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		at := "services." + s.Name + ".identity"
		switch {
		case d.places[at] == nil && s.Mesh:
			if s.Identity = d.kubernetesIdentity(c, s); s.Identity == "" {
				s.Identity = proxy.NewIdentity(id.TrustDomain, s.Name)
			}
		case d.places[at] != nil && !s.Mesh:
			d.report(d.places[at], at, "only a sidecar can prove an identity; remove this line, or mesh: false")
		case s.Mesh:
			s.Pinned = true
			s.Identity = d.expand(c, at, s.Identity)
		}
	}
}

// checkFiles wants cert, key and roots together or none of them, and files that are there.
func (d *decoder) checkFiles(id *Identity) {
	files := []struct {
		key  string
		path *string
	}{{"identity.cert", &id.Cert}, {"identity.key", &id.Key}, {"identity.roots", &id.Roots}}
	var given, absent []string
	for _, f := range files {
		n := d.places[f.key]
		if n == nil {
			absent = append(absent, strings.TrimPrefix(f.key, "identity."))
			continue
		}
		given = append(given, f.key)
		if d.bad[f.key] {
			continue
		}
		if *f.path == "" {
			d.report(n, f.key, "has no value; write the path of a PEM file or remove the line")
			continue
		}
		*f.path = join(d.dir, *f.path)
		if err := readable(*f.path); err != nil {
			d.report(n, f.key, "%v; write the path of a PEM file", err)
		}
	}
	if len(given) > 0 && len(absent) > 0 {
		d.report(d.places[given[0]], given[0], "cert, key and roots go together; add %s to identity", strings.Join(absent, " and "))
	}
	const devCA = "identity.dev_ca"
	switch n := d.places[devCA]; {
	case n != nil && len(given) > 0:
		d.report(n, devCA, "the development CA is used only without cert; remove dev_ca, or cert, key and roots")
	case n != nil && id.DevCA == "" && !d.bad[devCA]:
		d.report(n, devCA, "has no value; write the path of a folder or remove the line")
	case n != nil:
		id.DevCA = join(d.dir, id.DevCA)
	case len(given) == 0:
		dir, err := devca.DefaultDir(os.Getenv)
		if err != nil {
			d.report(d.places["identity"], devCA, "missing, and there is no home folder to keep a development CA in; write dev_ca: /var/lib/pillion/ca, or cert, key and roots")
		}
		id.DevCA = dir
	}
}

// readable says in a few words why the file cannot be read.
func readable(path string) error {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		if st, serr := f.Stat(); serr == nil && st.IsDir() {
			return fmt.Errorf("%s is a folder", path)
		}
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("cannot read %s: %w", path, err)
}

// CATrustDomain returns the trust domain of the development CA in dir; fs.ErrNotExist if there is none.
func CATrustDomain(dir string) (string, error) {
	cert, err := firstCertificate(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return "", err
	}
	if len(cert.URIs) != 1 || proxy.CheckTrustDomain(cert.URIs[0].Host) != nil {
		return "", fmt.Errorf("the certificate in %s is not that of a development CA; remove the folder, or name another", dir)
	}
	return cert.URIs[0].Host, nil
}

// identityIn returns the identity in the certificate in the file at path.
func identityIn(path string) (proxy.Identity, error) {
	cert, err := firstCertificate(path)
	if err != nil {
		return "", err
	}
	for _, u := range cert.URIs {
		if id, err := proxy.ParseIdentity(u.String()); err == nil {
			return id, nil
		}
	}
	return "", fmt.Errorf("the certificate in %s names no SPIFFE ID; issue one with the URI spiffe://<trust domain>/<service>", path)
}

func firstCertificate(path string) (*x509.Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s holds no certificate; write the path of a PEM file that begins with -----BEGIN CERTIFICATE-----", path)
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the certificate in %s: %w", path, err)
		}
		return cert, nil
	}
}
