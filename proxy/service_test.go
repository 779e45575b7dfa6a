package proxy

import "testing"

func TestLabels(t *testing.T) {
	ep := Endpoint{Labels: Labels(map[string]string{"version": "v2", "stage": "", "a": "b=c"})}
	if want := "a=b=c,stage=,version=v2"; ep.Labels != want {
		t.Errorf("labels %q, want %q", ep.Labels, want)
	}
	for name, want := range map[string]string{"version": "v2", "stage": "", "a": "b=c"} {
		if v, ok := ep.Label(name); !ok || v != want {
			t.Errorf("%s: %q %v, want %q", name, v, ok, want)
		}
	}
	if v, ok := ep.Label("vers"); ok {
		t.Errorf("there is no such label, and it is %q", v)
	}
}

// TestSettingsOf: a route that is not there has what the service has.
func TestSettingsOf(t *testing.T) {
	all := []string{"service", "first"}
	for rule, want := range []string{"service", "first", "service"} {
		if got := *SettingsOf(&Request{Rule: rule}, all); got != want {
			t.Errorf("rule %d: %s, want %s", rule, got, want)
		}
	}
}
