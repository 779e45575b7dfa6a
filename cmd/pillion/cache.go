package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// cacheCommand shows what a running sidecar's cache holds, and empties it.
func cacheCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "What the HTTP cache holds and does; forget some of it",
		Long: `Asks the running sidecar what its HTTP cache holds and does, and has it forget answers. A URL is what the app asked for, as in
http://catalogue/items?page=2; the scheme may be left out. The app's own answers (app: cache) are those of the service app:PORT.`,
	}
	c.AddCommand(cacheStats(), cacheList(), cacheShow(), cachePurge())
	return c
}

// asker is what the commands below cache have in common.
type asker struct {
	client adminClient
	out    format
}

func (a *asker) add(c *cobra.Command) {
	a.client.add(c)
	a.out.add(c)
}

// ask decodes the answer into v, or, with -o json, prints it as it came; then done is true.
func (a *asker) ask(cmd *cobra.Command, method, path string, v any) (done bool, err error) {
	address, token, err := a.client.find()
	if err != nil {
		return false, err
	}
	code, body, err := a.client.ask(cmd.Context(), method, address, token, path)
	switch {
	case err != nil:
		return false, fmt.Errorf("ask the sidecar at %s: %w; is it running, or has it another --admin address?", address, err)
	case code == http.StatusUnauthorized:
		return false, fmt.Errorf("the sidecar at %s wants a token; put that of its admin section into %s", address, tokenEnv)
	case code != http.StatusOK:
		return false, fmt.Errorf("the sidecar at %s answered %d: %s", address, code, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return false, fmt.Errorf("%s does not answer as a pillion does: %w; check the --admin address", address, err)
	}
	return a.out.json(), nil
}

// print writes v as JSON.
func (a *asker) print(cmd *cobra.Command, v any) error {
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func cacheStats() *cobra.Command {
	var a asker
	c := &cobra.Command{
		Use:   "stats",
		Short: "Hits, misses and bytes, and why answers were not stored",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st admin.Status
			asJSON, err := a.ask(cmd, http.MethodGet, "/status", &st)
			if err != nil {
				return err
			}
			if st.Cache == nil {
				st.Cache = &admin.Cache{Services: []admin.CacheService{}}
			}
			if asJSON {
				return a.print(cmd, st.Cache)
			}
			printCache(newPrinter(cmd.OutOrStdout()), st.Cache)
			return nil
		},
	}
	a.add(c)
	return c
}

func printCache(p *printer, c *admin.Cache) {
	rows := [][]cell{{plain("memory"), plain(bytesText(uint64(c.Bytes))), plain(bytesText(uint64(c.Max))), plain(strconv.FormatInt(c.Entries, 10)), plain(count(c.Evictions))}}
	if d := c.Disk; d != nil {
		rows = append(rows, []cell{plain("disk"), plain(bytesText(uint64(d.Bytes))), plain(bytesText(uint64(d.Max))), plain(strconv.Itoa(d.Entries)), plain("-")})
	}
	p.table("cache", []string{"CACHE", "BYTES", "OF", "ENTRIES", "EVICTED"}, rows)
	rows = nil
	for _, s := range c.Services {
		rows = append(rows, []cell{plain(s.Name), plain(hitRatio(s.Hits, s.Misses)), plain(count(s.Hits)), plain(count(s.Stale)), plain(count(s.Misses)), plain(count(s.Validated)), plain(count(s.Collapsed)),
			plain(count(s.Passed)), plain(count(s.Stored)), plain(count(s.Invalidated)), plain(bytesText(s.BytesServed)), plain(orDash(reasonsText(s.NotStored)))})
	}
	p.table("service", []string{"SERVICE", "HIT RATIO", "HITS", "STALE", "MISSES", "VALIDATED", "COLLAPSED", "PASSED", "STORED", "INVALIDATED", "SERVED", "NOT STORED"}, rows)
	rows = nil
	for _, d := range c.DNS {
		rows = append(rows, []cell{plain(d.Service), plain(hitRatio(d.Hits, d.Misses)), plain(count(d.Hits)), plain(count(d.Misses)), plain(strconv.Itoa(d.Entries)), plain(bytesText(uint64(d.Bytes)))})
	}
	p.table("dns", []string{"DNS OF", "HIT RATIO", "HITS", "MISSES", "ENTRIES", "BYTES"}, rows)
}

func hitRatio(hits, misses uint64) string {
	if hits+misses == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(hits)/float64(hits+misses))
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// reasonsText is "no_store 3, private 1".
func reasonsText(m map[string]uint64) string {
	var all []string
	for why, n := range m {
		all = append(all, why+" "+count(n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func cacheList() *cobra.Command {
	var (
		a       asker
		service string
		limit   int
	)
	c := &cobra.Command{
		Use:   "ls",
		Short: "The answers in memory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			if service != "" {
				q.Set("service", service)
			}
			var list admin.CacheList
			asJSON, err := a.ask(cmd, http.MethodGet, "/cache?"+q.Encode(), &list)
			if err != nil {
				return err
			}
			if asJSON {
				return a.print(cmd, list)
			}
			printEntries(newPrinter(cmd.OutOrStdout()), list.Entries)
			if list.More {
				fmt.Fprintf(cmd.ErrOrStderr(), "there are more than %d; see --limit and --service\n", limit)
			}
			return nil
		},
	}
	a.add(c)
	c.Flags().StringVar(&service, "service", "", "only those of this service")
	c.Flags().IntVar(&limit, "limit", 1000, "how many at most")
	return c
}

func printEntries(p *printer, all []admin.CacheEntry) {
	var rows [][]cell
	for _, e := range all {
		ttl := cell{seconds(e.TTL), green}
		if e.TTL <= 0 {
			ttl = cell{"stale", yellow}
		}
		rows = append(rows, []cell{plain(e.Service), plain(e.URL), plain(strconv.Itoa(e.Status)), plain(bytesText(uint64(e.Bytes))), plain(seconds(e.Age)), ttl, plain(count(e.Hits)), plain(orDash(varyText(e.Vary))),
			plain(orDash(e.Owner)), plain(orDash(strings.Join(e.Tags, ",")))})
	}
	p.table("entry", []string{"SERVICE", "URL", "STATUS", "BYTES", "AGE", "FRESH FOR", "HITS", "VARY", "ONLY FOR", "TAGS"}, rows)
}

func varyText(m map[string]string) string {
	var all []string
	for name, value := range m {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func cacheShow() *cobra.Command {
	var a asker
	c := &cobra.Command{
		Use:   "show URL",
		Short: "What is kept of one URL: all its variants",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := cacheURL(args[0])
			if err != nil {
				return err
			}
			var list admin.CacheList
			asJSON, err := a.ask(cmd, http.MethodGet, "/cache?"+url.Values{"url": {at}}.Encode(), &list)
			if err != nil {
				return err
			}
			if asJSON {
				return a.print(cmd, list)
			}
			if len(list.Entries) == 0 {
				return fmt.Errorf("nothing is kept of %s; pillion cache stats says why answers are not", at)
			}
			printEntries(newPrinter(cmd.OutOrStdout()), list.Entries)
			return nil
		},
	}
	a.add(c)
	return c
}

func cachePurge() *cobra.Command {
	var (
		a            asker
		tag, service string
		all          bool
	)
	c := &cobra.Command{
		Use:   "purge [URL]",
		Short: "Forget a URL, all that has a tag, or everything",
		Long: `Has the cache forget what it keeps of a URL, of all that has a surrogate key (Surrogate-Key, Cache-Tag), or everything; what is being fetched meanwhile is not kept either.
From another machine it wants admin.write_token, in ` + tokenEnv + `.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if len(args) == 1 {
				at, err := cacheURL(args[0])
				if err != nil {
					return err
				}
				q.Set("url", at)
			}
			if tag != "" {
				q.Set("tag", tag)
			}
			if all {
				q.Set("all", "true")
			}
			if len(q) != 1 {
				return &usageError{errors.New("say what to forget: a URL, --tag or --all, and only one of them")}
			}
			if service != "" {
				q.Set("service", service)
			}
			var res admin.CachePurged
			asJSON, err := a.ask(cmd, http.MethodPost, "/cache/purge?"+q.Encode(), &res)
			if err != nil {
				return err
			}
			if asJSON {
				return a.print(cmd, res)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d forgotten\n", res.Purged)
			return nil
		},
	}
	a.add(c)
	c.Flags().StringVar(&tag, "tag", "", "forget all that has this surrogate key")
	c.Flags().BoolVar(&all, "all", false, "forget everything")
	c.Flags().StringVar(&service, "service", "", "with a URL: only of this service")
	return c
}

// cacheURL is a URL as the cache has it: authority, as it is compared, and path.
func cacheURL(s string) (string, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "http", s
	}
	authority, path, ok := strings.Cut(rest, "/")
	if authority == "" || strings.ContainsAny(rest, " #") {
		return "", &usageError{fmt.Errorf("%q is no URL; write it as in http://catalogue/items", s)}
	}
	if !ok && strings.Contains(authority, "?") {
		return "", &usageError{fmt.Errorf("%q has no path; write it as in http://catalogue/?page=2", s)}
	}
	authority = strings.ToLower(authority)
	if scheme == "https" {
		return "https://" + strings.TrimSuffix(strings.TrimSuffix(authority, ":443"), ".") + "/" + path, nil
	}
	return strings.TrimSuffix(strings.TrimSuffix(authority, ":80"), ".") + "/" + path, nil
}
