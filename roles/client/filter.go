package client

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// filterFlags say which records are printed; those that are not are read all the same.
type filterFlags struct {
	grep, key string
	headers   []string
}

func (f *filterFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.grep, "grep", "", "print only records whose value has a match of `REGEXP` (RE2)")
	flags.StringVar(&f.key, "key", "", "print only records whose key has a match of `REGEXP`; a record without key has none")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "print only records that have a header `NAME`, or NAME=REGEXP whose value has a match; may be repeated: all have to be there")
}

// filter is what they say, compiled. The zero one takes every record.
type filter struct {
	value, key *regexp.Regexp
	headers    []headerFilter
}

type headerFilter struct {
	name  string
	value *regexp.Regexp // nil: any
}

func (f *filterFlags) compile() (out filter, err error) {
	compile := func(flag, text string) (*regexp.Regexp, error) {
		if text == "" {
			return nil, nil
		}
		e, err := regexp.Compile(text)
		if err != nil {
			return nil, usage("--%s %q: %v", flag, text, err)
		}
		return e, nil
	}
	if out.value, err = compile("grep", f.grep); err != nil {
		return filter{}, err
	}
	if out.key, err = compile("key", f.key); err != nil {
		return filter{}, err
	}
	for _, text := range f.headers {
		name, pattern, _ := strings.Cut(text, "=")
		if name == "" {
			return filter{}, usage("--header %q: want NAME or NAME=REGEXP", text)
		}
		value, err := compile("header", pattern)
		if err != nil {
			return filter{}, err
		}
		out.headers = append(out.headers, headerFilter{name, value})
	}
	return out, nil
}

// takes tells whether a record is to be printed.
func (f *filter) takes(r *kgo.Record) bool {
	if f.value != nil && (r.Value == nil || !f.value.Match(r.Value)) || f.key != nil && (r.Key == nil || !f.key.Match(r.Key)) {
		return false
	}
	for _, wanted := range f.headers {
		if !wanted.in(r.Headers) {
			return false
		}
	}
	return true
}

func (f *headerFilter) in(headers []kgo.RecordHeader) bool {
	for _, h := range headers {
		if h.Key == f.name && (f.value == nil || f.value.Match(h.Value)) {
			return true
		}
	}
	return false
}
