package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo says which pillion this is.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, "+dirty" if it was changed
	Built    string `json:"revision_time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// version reads what the linker has left in the executable.
func version() versionInfo {
	v := versionInfo{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Built = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if v.Revision != "" {
		v.Revision += dirty
	}
	return v
}

func versionCommand() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use:   "version",
		Short: "Print which pillion this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := version()
			if out.json() {
				return printJSON(cmd.OutOrStdout(), v)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "pillion %s %s %s\n", v.Version, v.Go, v.Platform)
			if v.Revision != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "revision %s of %s\n", v.Revision, v.Built)
			}
			return nil
		},
	}
	out.add(c)
	return c
}
