package config

import (
	"fmt"
	"reflect"
)

// Change is one key that two configurations differ in.
type Change struct {
	// Key is its path, as in "services.billing.timeout"; of an entry that only one of them has, the path of the entry.
	Key string
	// Old and New are the values as they are written in YAML, "" where there is none.
	Old, New string
}

// Diff lists what new has that old has not, and the other way round, in the order of the keys. Secrets are not told.
func Diff(old, new *Config) []Change {
	d := &differ{}
	d.mapping("", reflect.ValueOf(*old), reflect.ValueOf(*new))
	return d.changes
}

type differ struct {
	changes []Change
	fields  map[reflect.Type][]field
}

func (d *differ) add(key, old, new string) { d.changes = append(d.changes, Change{key, old, new}) }

func (d *differ) mapping(path string, old, new reflect.Value) {
	fs, ok := d.fields[old.Type()]
	if !ok {
		fs = fieldsOf(old.Type())
		if d.fields == nil {
			d.fields = make(map[reflect.Type][]field)
		}
		d.fields[old.Type()] = fs
	}
	for _, f := range fs {
		d.field(sub(path, f.key), f, old.Field(f.index), new.Field(f.index))
	}
}

func (d *differ) field(path string, f field, old, new reflect.Value) {
	if reflect.DeepEqual(old.Interface(), new.Interface()) {
		return
	}
	switch {
	case old.Type() == reflect.TypeFor[[]Service]():
		d.services(path, old.Interface().([]Service), new.Interface().([]Service))
	case isList(old.Type()):
		d.list(path, old, new)
	case isMapping(old.Type()):
		d.mapping(path, old, new)
	case isSecret(f, old.Type()):
		d.add(path, secret(old), secret(new))
	default:
		d.add(path, valueText(f, old), valueText(f, new))
	}
}

func secret(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	return "(secret)"
}

func valueText(f field, v reflect.Value) string {
	text, ok := format(f, v)
	if !ok {
		return ""
	}
	return text
}

// services compares those with the same name.
func (d *differ) services(path string, old, new []Service) {
	before := make(map[string]*Service, len(old))
	for i := range old {
		before[old[i].Name] = &old[i]
	}
	for i := range new {
		s := &new[i]
		at := sub(path, s.Name)
		if b := before[s.Name]; b != nil {
			if !reflect.DeepEqual(b, s) {
				d.mapping(at, reflect.ValueOf(*b), reflect.ValueOf(*s))
			}
			delete(before, s.Name)
			continue
		}
		d.add(at, "", formatEndpoints(s.Endpoints))
	}
	for i := range old {
		if before[old[i].Name] != nil {
			d.add(sub(path, old[i].Name), formatEndpoints(old[i].Endpoints), "")
		}
	}
}

// list compares entries with the same place.
func (d *differ) list(path string, old, new reflect.Value) {
	for i := range max(old.Len(), new.Len()) {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= old.Len():
			d.add(at, "", entryText(new.Index(i)))
		case i >= new.Len():
			d.add(at, entryText(old.Index(i)), "")
		default:
			d.mapping(at, old.Index(i), new.Index(i))
		}
	}
}

// entryText is one entry of a list in short: the keys that are not what they are without being written.
func entryText(v reflect.Value) string {
	zero := reflect.New(v.Type()).Elem()
	new(decoder).defaults("", fieldsOf(v.Type()), zero, nil)
	var d differ
	d.mapping("", zero, v)
	text := ""
	for i, c := range d.changes {
		if i > 0 {
			text += ", "
		}
		if c.New == "" {
			c.New = "none"
		}
		text += c.Key + ": " + c.New
	}
	return "{" + text + "}"
}
