package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/tls/devca"
)

// caCommand is the development CA.
func caCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Make and use a development CA",
		Long: `The development CA issues certificates to the sidecars of one machine, or of one team. "pillion run" makes and uses it by itself
if no certificate is configured. It is not for production: whoever can read its folder can be anybody in the mesh.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for \"pillion ca\"; there are init, issue and show", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(caInitCommand(), caIssueCommand(), caShowCommand())
	return c
}

// caFlags choose a CA.
type caFlags struct {
	dir string
	out format
}

func (f *caFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "dir", "", "the folder of the CA (default $XDG_DATA_HOME/pillion/ca, or ~/.local/share/pillion/ca)")
	c.MarkFlagDirname("dir")
	f.out.add(c)
}

// folder settles the folder of the CA.
func (f *caFlags) folder() (string, error) {
	if f.dir != "" {
		return filepath.Abs(f.dir)
	}
	dir, err := devca.DefaultDir(os.Getenv)
	if err != nil {
		return "", &usageError{fmt.Errorf("%w with --dir", err)}
	}
	return dir, nil
}

// open opens a CA that exists, whatever its trust domain is.
func (f *caFlags) open() (*devca.CA, error) {
	dir, err := f.folder()
	if err != nil {
		return nil, err
	}
	domain, err := config.CATrustDomain(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no CA in %s; make one with \"pillion ca init\"", dir)
	}
	if err != nil {
		return nil, err
	}
	ca, _, err := devca.OpenFor(dir, domain)
	return ca, err
}

// caJSON is a CA in -o json.
type caJSON struct {
	Dir         string    `json:"dir"`
	TrustDomain string    `json:"trust_domain"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hex
	Roots       string    `json:"roots"`       // path
	NotAfter    time.Time `json:"not_after"`
	Created     bool      `json:"created"`
}

func (f *caFlags) print(cmd *cobra.Command, ca *devca.CA, created bool) error {
	w := cmd.OutOrStdout()
	if f.out.json() {
		return printJSON(w, caJSON{ca.Dir(), ca.TrustDomain(), ca.Fingerprint(), ca.RootsFile(), ca.NotAfter().UTC(), created})
	}
	fmt.Fprintf(w, "folder        %s\ntrust domain  %s\nfingerprint   sha256:%s\nroots         %s\nvalid until   %s\n",
		ca.Dir(), ca.TrustDomain(), ca.Fingerprint(), ca.RootsFile(), ca.NotAfter().UTC().Format(time.RFC3339))
	return nil
}

func caInitCommand() *cobra.Command {
	var (
		f      caFlags
		domain string
	)
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a development CA, if there is none",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := f.folder()
			if err != nil {
				return err
			}
			want := domain
			if want == "" {
				if want, err = config.CATrustDomain(dir); err != nil {
					want = devca.TrustDomain
				}
			}
			ca, created, err := devca.OpenFor(dir, want)
			if err != nil {
				return err
			}
			if !f.out.json() && created {
				fmt.Fprintln(cmd.OutOrStdout(), "made a development CA; keep its folder to yourself")
			} else if !f.out.json() {
				fmt.Fprintln(cmd.OutOrStdout(), "there is a development CA already; it is left as it is")
			}
			return f.print(cmd, ca, created)
		},
	}
	f.add(c)
	c.Flags().StringVar(&domain, "trust-domain", "", "the trust domain of a new CA (default "+devca.TrustDomain+")")
	return c
}

func caShowCommand() *cobra.Command {
	var f caFlags
	c := &cobra.Command{
		Use:   "show",
		Short: "Print where the development CA is, its fingerprint and how long it lives",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ca, err := f.open()
			if err != nil {
				return err
			}
			return f.print(cmd, ca, false)
		},
	}
	f.add(c)
	return c
}

func caIssueCommand() *cobra.Command {
	var (
		f      caFlags
		to     string
		length time.Duration
		force  bool
	)
	c := &cobra.Command{
		Use:   "issue SERVICE",
		Short: "Issue a certificate to a service",
		Long: `Writes SERVICE.crt, SERVICE.key (readable by its owner only) and roots.pem, the three files that the identity section of a configuration
names. SERVICE is a name in the CA's trust domain, or a SPIFFE ID. It overwrites nothing without --force.`,
		Example: "  pillion ca issue orders --out /etc/pillion --for 720h",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one service, as in: pillion ca issue orders")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if length <= 0 {
				return &usageError{errors.New("--for must be positive, as in 24h")}
			}
			ca, err := f.open()
			if err != nil {
				return err
			}
			id := proxy.Identity(args[0])
			if !strings.Contains(args[0], "/") {
				if err := config.CheckServiceName(args[0]); err != nil {
					return &usageError{err}
				}
				id = proxy.NewIdentity(ca.TrustDomain(), args[0])
			}
			return issue(cmd, &f, ca, id, to, length, overwrite(force))
		},
	}
	f.add(c)
	c.Flags().StringVar(&to, "out", ".", "the folder to write to")
	c.Flags().DurationVar(&length, "for", devca.DefaultLifetime, "how long the certificate lives")
	c.Flags().BoolVar(&force, "force", false, "overwrite files that exist")
	return c
}

// overwrite is whether files that exist may be replaced.
type overwrite bool

func issue(cmd *cobra.Command, f *caFlags, ca *devca.CA, id proxy.Identity, to string, length time.Duration, o overwrite) error {
	cert, key, err := ca.Issue(id, devca.IssueOptions{For: length})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	name := path.Base(string(id))
	files := []struct {
		path string
		data []byte
		mode fs.FileMode
	}{
		{filepath.Join(to, name+".key"), key, 0o600},
		{filepath.Join(to, name+".crt"), cert, 0o644},
		{filepath.Join(to, "roots.pem"), ca.Roots(), 0o644},
	}
	for _, file := range files[:2] { // roots.pem is the same for every service
		if _, err := os.Lstat(file.path); err == nil && !o {
			return fmt.Errorf("%s exists and is left as it is; say --force to replace it, or --out for another folder", file.path)
		}
	}
	for _, file := range files {
		if err := replaceFile(file.path, file.data, file.mode); err != nil {
			return err
		}
	}
	if f.out.json() {
		return printJSON(cmd.OutOrStdout(), map[string]string{
			"identity": string(id), "cert": files[1].path, "key": files[0].path, "roots": files[2].path,
		})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "issued %s for %v; write in the configuration:\n\nidentity:\n  cert: %s\n  key: %s\n  roots: %s\n",
		id, length, files[1].path, files[0].path, files[2].path)
	return nil
}

// replaceFile puts a whole new file in the place of path, so that a reader sees the old or the new one, and the mode is never wider than asked.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pillion-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
