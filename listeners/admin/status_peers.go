package admin

// Peers is what /peers answers: what the sidecars that this one calls say of themselves.
type Peers struct {
	Peers []Peer `json:"peers"`
	// Left is how many more there are, which were not asked.
	Left int `json:"left,omitempty"`
}

// Peer is one of them. Either Status is there, or Error says why not.
type Peer struct {
	Address  string   `json:"address"`
	Identity string   `json:"identity"`
	Services []string `json:"services"` // what it serves, as this sidecar knows it
	// Code is why it could not be asked, or why it refused, of the documented list: "denied", "connect_failed"; Error is the sentence.
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	// Took is the time to the whole answer, in seconds.
	Took   float64 `json:"took_seconds"`
	Status *Status `json:"status,omitempty"`
}
