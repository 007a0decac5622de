//go:build suites

package apache

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// field is one value of an answer.
type field struct {
	path  string // names of struct fields, with no index: Topics.Partitions.ErrorCode
	value string
}

// symbols are the names that a run gives to values which differ between any two
// servers, in the order in which it meets them.
type symbols map[string]map[string]string

func (s symbols) of(kind, value string) string {
	if s[kind] == nil {
		s[kind] = map[string]string{}
	}
	if s[kind][value] == "" {
		s[kind][value] = fmt.Sprintf("%s %d", kind, len(s[kind])+1)
	}
	return s[kind][value]
}

// fields are those of an answer in their order, normalised.
func (r *run) fields(p kmsg.Response) []field {
	w := walk{run: r, key: p.Key()}
	return w.value("", reflect.ValueOf(p).Elem())
}

type walk struct {
	*run
	key int16
}

func (w walk) value(path string, v reflect.Value) []field {
	if raw, ok := v.Interface().([]byte); ok {
		return w.bytes(path, raw)
	}
	if id, ok := v.Interface().([16]byte); ok {
		if id == [16]byte{} {
			return []field{{path, "no id"}}
		}
		if name, ok := w.topics[id]; ok {
			return []field{{path, "id of " + name}}
		}
		return []field{{path, "an id"}}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if strings.HasSuffix(path, "ErrorMessage") {
			return []field{{path, arbitrary["ErrorMessage"]}}
		}
		if v.IsNil() {
			return []field{{path, "null"}}
		}
		return w.value(path, v.Elem())
	case reflect.Struct:
		return w.structure(path, v)
	case reflect.Slice:
		return w.slice(path, v)
	default:
		return []field{{path, w.normalise(path, v)}}
	}
}

func (w walk) structure(path string, v reflect.Value) (all []field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if path == "" && f.Name == "Version" || f.Anonymous {
			continue
		}
		if tags, ok := v.Field(i).Interface().(kmsg.Tags); ok {
			if tags.Len() > 0 {
				all = append(all, field{join(path, f.Name), fmt.Sprintf("%d unknown tags", tags.Len())})
			}
			continue
		}
		all = append(all, w.value(join(path, f.Name), v.Field(i))...)
	}
	return all
}

func (w walk) slice(path string, v reflect.Value) []field {
	if v.IsNil() {
		return []field{{path, "none"}} // an empty list reads as none where null is not allowed
	}
	var items [][]field
	for i := range v.Len() {
		at := path
		if by := keyed[w.place(path)]; by != "" {
			at += "{" + v.Index(i).FieldByName(by).String() + "}"
		}
		items = append(items, w.value(at, v.Index(i)))
	}
	if unordered[w.place(path)] {
		slices.SortStableFunc(items, func(a, b []field) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	if keyed[w.place(path)] != "" {
		return slices.Concat(items...)
	}
	return append([]field{{path, fmt.Sprintf("%d items", v.Len())}}, slices.Concat(items...)...)
}

// bytes are hex; those of a fetch are record batches.
func (w walk) bytes(path string, raw []byte) []field {
	switch {
	case raw == nil:
		return []field{{path, "null"}}
	case w.key == int16(kmsg.Fetch) && strings.HasSuffix(path, "RecordBatches"):
		return w.batches(path, raw)
	}
	return []field{{path, hex.EncodeToString(raw)}}
}

// batches are those of a fetch, the last cut off perhaps.
func (w walk) batches(path string, raw []byte) (all []field) {
	for n := 0; len(raw) > 0; n++ {
		size := 12
		if len(raw) >= size {
			size += int(uint32(raw[8])<<24 | uint32(raw[9])<<16 | uint32(raw[10])<<8 | uint32(raw[11]))
		}
		if len(raw) < size {
			return append(all, field{path, "a part of a batch"})
		}
		var b kmsg.RecordBatch
		if err := b.ReadFrom(raw[:size]); err != nil {
			return append(all, field{path, "a batch that does not read: " + err.Error()})
		}
		// The checksum is over ids and times that differ.
		if uint32(b.CRC) != crc32.Checksum(raw[21:size], crc32.MakeTable(crc32.Castagnoli)) {
			return append(all, field{path, "a batch of a wrong checksum"})
		}
		b.CRC = 0
		all = append(all, w.value(path, reflect.ValueOf(b))...)
		raw = raw[size:]
	}
	if all == nil {
		all = []field{{path, "empty"}}
	}
	return all
}

func (w walk) place(path string) string { return kmsg.NameForKey(w.key) + " " + path }

func errorName(code int64) string {
	if code == 0 {
		return "NONE"
	}
	if e := kerr.TypedErrorForCode(int16(code)); e != nil {
		return e.Message
	}
	return fmt.Sprintf("error %d", code)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
