package report

import "time"

// Report is the outcome of a bench. Its JSON form is an interface: keys may be added.
type Report struct {
	Pillion     string       `json:"pillion"` // version
	Time        time.Time    `json:"time"`
	Machine     string       `json:"machine"`
	Load        Load         `json:"load"`
	Rounds      int          `json:"rounds"`      // in which both sides were measured
	Interrupted bool         `json:"interrupted"` // the figures are of what was measured until then
	Summary     string       `json:"summary"`     // one sentence
	Direct      Side         `json:"direct"`
	Via         Side         `json:"via"`
	Differences []Difference `json:"differences"` // via less direct
	Notes       []string     `json:"notes"`       // what to know before believing the figures
}

// Load is what was asked for.
type Load struct {
	Protocol    string  `json:"protocol"`
	Rate        float64 `json:"rate,omitempty"`        // requests/s of an open loop
	Concurrency int     `json:"concurrency,omitempty"` // of a closed loop
	Connections int     `json:"connections"`
	Streams     int     `json:"streams"`        // on each connection
	Size        int     `json:"size,omitempty"` // bytes, where the load decides it
	Seconds     float64 `json:"seconds"`        // of each side in each round
	Rounds      int     `json:"rounds"`
}

// Bulk reports whether bytes are measured, and no latencies.
func (l Load) Bulk() bool { return l.Protocol == "tcp-bulk" || l.Protocol == "http-bulk" }

// Side is one way to the app.
type Side struct {
	Target string    `json:"target"`
	All    Figures   `json:"all"` // of all rounds together; of CPU and memory, of their medians
	Rounds []Figures `json:"rounds"`
	Curve  []Step    `json:"curve"`
	Series []Point   `json:"series"`
}

// Figures are what one side did. What is nil was not measured, or has too few samples.
type Figures struct {
	Requests          uint64            `json:"requests"`
	Errors            uint64            `json:"errors"`
	Unfinished        uint64            `json:"unfinished"`
	Failures          map[string]uint64 `json:"failures,omitempty"`
	Seconds           float64           `json:"seconds"`
	RequestsPerSecond float64           `json:"requests_per_second"`
	MiBPerSecond      float64           `json:"mib_per_second"`
	Latency           Latency           `json:"latency_us"`
	CPUPerRequest     *float64          `json:"proxy_cpu_us_per_request"`
	CPUPerGiB         *float64          `json:"proxy_cpu_s_per_gib,omitempty"`
	Memory            *int64            `json:"proxy_memory_bytes"`
	GeneratorShare    float64           `json:"generator_cpu_share"` // of the generator's busiest thread, 0 to 1
	GeneratorLate     *float64          `json:"generator_late_p99_us"`
}

// Latency is in microseconds.
type Latency struct {
	P50  *float64 `json:"p50"`
	P90  *float64 `json:"p90"`
	P99  *float64 `json:"p99"`
	P999 *float64 `json:"p99.9"`
	Max  *float64 `json:"max"`
	Mean *float64 `json:"mean"`
}

// Step is a point of the distribution: the share Quantile of all requests took no longer than Micros.
type Step struct {
	Quantile float64 `json:"q"`
	Micros   float64 `json:"us"`
}

// Point is an interval of the measurement. Rounds follow each other in it as if nothing were between them.
type Point struct {
	Seconds           float64  `json:"s"`
	RequestsPerSecond float64  `json:"requests_per_second"`
	MiBPerSecond      float64  `json:"mib_per_second"`
	P50               *float64 `json:"p50_us"`
	Max               *float64 `json:"max_us"`
	Errors            uint64   `json:"errors"`
}

// Difference is that of one figure between the sides, the trimmed mean over the rounds.
type Difference struct {
	Figure string   `json:"figure"` // p50, p90, p99, p99.9, mean, throughput
	Unit   string   `json:"unit"`   // us, or percent of direct
	Mean   float64  `json:"mean"`
	Low    *float64 `json:"low"` // of the 95 % interval; nil with fewer than three rounds
	High   *float64 `json:"high"`
	Rounds int      `json:"rounds"`
}
