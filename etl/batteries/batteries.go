package batteries

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed built/headers.wasm built/json-schema.wasm built/mask.wasm built/project.wasm built/SHA256SUMS
var built embed.FS

// A Battery is a transform that comes with rustmq.
type Battery struct {
	// Name is what it is deployed by.
	Name string
	// Doc says what it does, in a line.
	Doc string
	// SHA256 is that of its bytes, in hexadecimal.
	SHA256 string
	// Example is a configuration that it takes.
	Example string
}

// List returns all, by name.
func List() []Battery {
	list := []Battery{
		{
			Name:    "headers",
			Doc:     "sets headers from constants, fields, key, topic, partition and time; removes headers",
			Example: `{"set":[{"name":"source","value":"usgs"},{"name":"net","field":"net"}],"remove":["x-*"]}`,
		},
		{
			Name:    "json-schema",
			Doc:     "rejects what is not valid by a JSON Schema (draft 2020-12), with place and reason",
			Example: `{"schema":{"type":"object","required":["mag"],"properties":{"mag":{"type":"number"}}}}`,
		},
		{
			Name:    "mask",
			Doc:     "masks or hashes (HMAC-SHA-256) fields of JSON, headers and keys",
			Example: `{"fields":[{"path":"card","action":"mask","keep_last":4}]}`,
		},
		{
			Name:    "project",
			Doc:     "filters, routes and rewrites JSON by rules with expressions",
			Example: `{"rules":[{"when":"mag >= 5","action":"route","topic":"quakes.strong","set":{"place":"upper(place)"}}]}`,
		},
	}
	sums, err := built.ReadFile("built/SHA256SUMS")
	if err != nil {
		panic(fmt.Sprintf("batteries: %v, though it is embedded", err))
	}
	for i := range list {
		for line := range strings.Lines(string(sums)) {
			if sum, name, _ := strings.Cut(strings.TrimSpace(line), "  "); name == list[i].Name+".wasm" {
				list[i].SHA256 = sum
			}
		}
	}
	return list
}

// Find returns the battery of that name; false: there is none.
func Find(name string) (Battery, bool) {
	for _, b := range List() {
		if b.Name == name {
			return b, true
		}
	}
	return Battery{}, false
}

// Wasm returns its bytes, a copy.
func (b Battery) Wasm() []byte {
	wasm, err := built.ReadFile("built/" + b.Name + ".wasm")
	if err != nil {
		panic(fmt.Sprintf("batteries: %v: only batteries of List have bytes", err))
	}
	return wasm
}
