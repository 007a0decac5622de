package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Key is one key of the configuration.
type Key struct {
	Name    string // "wal.capacity"
	Section string // "wal"
	Type    string // "size", "duration", "price", "string", "bool", "int"
	Doc     string
	Live    string // LiveNode or LiveCluster: it may change while the process runs; empty: it waits for a restart
	index   []int
}

// Env is the environment variable that sets the key.
func (k Key) Env() string {
	return "RUSTMQ_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "__"))
}

// Keys lists all keys in the order of [Config]. The list is the caller's.
func Keys() []Key { return slices.Clone(keys()) }

// keys are read off the type of [Config] once; nobody changes them.
var keys = sync.OnceValue(func() []Key {
	var keys []Key
	var walk func(t reflect.Type, section string, index []int)
	walk = func(t reflect.Type, section string, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Tag.Get("toml")
			if name == "" {
				continue
			}
			at := append(slices.Clone(index), i)
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, strings.TrimPrefix(section+"."+name, "."), at)
				continue
			}
			keys = append(keys, Key{Name: section + "." + name, Section: section, Type: typeName(f.Type), Doc: f.Tag.Get("doc"), Live: f.Tag.Get("live"), index: at})
		}
	}
	walk(reflect.TypeFor[Config](), "", nil)
	return keys
})

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Price]():
		return "price"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "string"
	}
	return "int"
}

func findKey(name string) (Key, bool) {
	all := keys()
	i := slices.IndexFunc(all, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return all[i], true
}

func (c *Config) field(k Key) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(k.index) }

// Value returns the value of a key as it would be written.
func (c *Config) Value(k Key) string {
	return fmt.Sprint(c.field(k).Interface())
}

// set parses text as the key's type.
func (c *Config) set(k Key, text string) error {
	v := c.field(k)
	switch v.Interface().(type) {
	case Size:
		s, err := ParseSize(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(s))
		return nil
	case Duration:
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
		return nil
	case Price:
		p, err := parsePrice(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(p))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%q is not plain text", text)
		}
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is not true or false", text)
		}
		v.SetBool(b)
	default:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number of %d bits", text, v.Type().Bits())
		}
		v.SetInt(n)
	}
	return nil
}

// isSection tells whether keys stand below the name.
func isSection(name string) bool {
	return slices.ContainsFunc(keys(), func(k Key) bool { return strings.HasPrefix(k.Name, name+".") })
}

// unknown says what is wrong with a name that is no key.
func unknown(name string) string {
	if isSection(name) {
		return "a section, not a key"
	}
	if near := nearest(name); near != "" {
		return "there is no such key; did you mean " + near + "?"
	}
	return "there is no such key"
}

// nearest returns the key that name most likely meant, or "".
func nearest(name string) string {
	best, distance := "", len(name)/2+1
	for _, k := range keys() {
		for _, candidate := range []string{k.Name, k.Name[strings.LastIndexByte(k.Name, '.')+1:]} {
			if d := editDistance(name, candidate); d < distance {
				best, distance = k.Name, d
			}
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
