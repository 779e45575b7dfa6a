package config

import "testing"

func TestPercent(t *testing.T) {
	for in, want := range map[string]Percent{"20%": 20, "0.5%": 0.5, "100%": 100, "0%": 0} {
		got, err := parsePercent(in)
		if err != nil || got != want || got.String() != in || got.Share() != float64(want)/100 {
			t.Errorf("%s: got %v (%s), %v, want %v", in, float64(got), got, err, float64(want))
		}
	}
	for in, want := range map[string]string{
		"20":   "20 has no percent sign; write 20%",
		"-1%":  `"-1%" is no share; write a number with a percent sign, as in 20% or 0.5%`,
		"%":    `"%" is no share; write a number with a percent sign, as in 20% or 0.5%`,
		"1e9%": `"1e9%" is no share; write a number with a percent sign, as in 20% or 0.5%`,
	} {
		if _, err := parsePercent(in); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}
