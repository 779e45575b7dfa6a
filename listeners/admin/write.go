package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
)

// ActionField is the field that a request which changes something must have, with any value: the pages of other sites cannot make a browser send it
// without asking first (a preflight), and they are never told yes.
const ActionField = "Pillion-Action"

// mayWrite says why r may not change anything; "" if it may. Who may is a client on this machine, which has also sent the token where there is one,
// and any other with the write token.
func (s *Server) mayWrite(r *http.Request) (status int, why string) {
	may := s.access.Load()
	switch {
	case r.Header.Get(ActionField) == "":
		return http.StatusForbidden, "a request that changes something has the field " + ActionField
	case may.WriteToken != "" && hasToken(r, may.WriteToken):
		return 0, ""
	case !fromHere(r):
		return http.StatusForbidden, `from another machine send "Authorization: Bearer" and the write_token of the configuration's admin section`
	case may.Token != "" && !hasToken(r, may.Token):
		return http.StatusUnauthorized, `send "Authorization: Bearer" and the token of the configuration's admin section`
	}
	return 0, ""
}

// hasToken compares in constant time.
func hasToken(r *http.Request, token string) bool {
	want := sha256.Sum256([]byte(token))
	scheme, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(sent))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// fromHere reports whether the client is on this machine.
func fromHere(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err != nil && (r.RemoteAddr == "" || r.RemoteAddr == "@") || err == nil && ap.Addr().Unmap().IsLoopback()
}

// reload answers what a reload would change (GET), or does it (POST): 200 if the configuration is in force, 422 if it cannot be.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	res := s.cfg.Reload(r.Method == http.MethodPost)
	res.Changes, res.Problems = orEmpty(res.Changes), orEmpty(res.Problems)
	status := http.StatusOK
	if !res.OK {
		status = http.StatusUnprocessableEntity
	}
	s.json(w, status, res)
}

func (s *Server) json(w http.ResponseWriter, status int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // a float that is no number
		s.cfg.Logger.Error("encode an answer of the admin listener", "error", err)
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(data, '\n'))
}

// Reload is what /reload answers.
type Reload struct {
	// OK is true if the configuration is, or would be, in force: it has no problems.
	OK bool `json:"ok"`
	// Applied is true if it has been put into force now.
	Applied bool `json:"applied"`
	// Generation counts the configurations that have been in force; the first is 1.
	Generation int `json:"generation"`
	// Changes is what it has that the one before has not.
	Changes []Change `json:"changes"`
	// Problems say why it cannot be put into force.
	Problems []Problem `json:"problems"`
}

// Change is one key that differs.
type Change struct {
	Key string `json:"key"`
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
	// Restart is true where only a restart makes it take effect.
	Restart bool `json:"restart,omitempty"`
}

// Problem is one mistake, with its place if it has one.
type Problem struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	Text   string `json:"text"`
}

// Configuration is which configuration is in force.
type Configuration struct {
	// Generation is 1 from the start, and one more after each reload that has changed something.
	Generation int `json:"generation"`
	// Age is how long it has been in force, in seconds.
	Age float64 `json:"age_seconds"`
	// Reloads counts those that were asked for, by hand or by a change of the file; Failed those of them that changed nothing because of a mistake.
	Reloads uint64 `json:"reloads"`
	Failed  uint64 `json:"failed"`
	// Error is why the last reload failed, "" if it did not: the file is not what is in force then. ErrorAge is how long ago that was, in seconds.
	Error    string  `json:"error,omitempty"`
	ErrorAge float64 `json:"error_age_seconds,omitempty"`
}
