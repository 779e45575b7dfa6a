package admin

// Registration is this sidecar's own entry in a registry.
type Registration struct {
	In      string `json:"in"` // "consul" or "etcd"
	ID      string `json:"id"`
	Address string `json:"address"` // ":port" where the registry knows the rest
	Entered bool   `json:"entered"`
	// Age is how long ago the entry was last renewed, in seconds; -1 if it is not there.
	Age float64 `json:"age_seconds"`
	// Unfit is why peers are told not to come, "" if they may.
	Unfit string `json:"unfit,omitempty"`
	// Error says why the registry could not be told, "" if it could.
	Error string `json:"error,omitempty"`
}
