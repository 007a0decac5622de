package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// The parts of CycloneDX that are written (ECMA-424, bom-1.5.schema.json).
type (
	bom struct {
		Format     string      `json:"bomFormat"`
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   metadata    `json:"metadata"`
		Components []component `json:"components"`
	}
	metadata struct {
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY VERSION LOCK")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(file, version, lock string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	whole := module(info.Main.Path, version, "")
	whole.Type, whole.Hashes = "application", []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	for _, s := range info.Settings {
		whole.Properties = append(whole.Properties, property{"go:build:" + s.Key, s.Value})
	}
	made := bom{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: metadata{whole}}
	made.Components = append(made.Components, module("std", info.GoVersion, ""))
	for _, dep := range info.Deps {
		made.Components = append(made.Components, of(dep, version))
	}
	scripts, err := packages(lock, raw)
	if err != nil {
		return err
	}
	made.Components = append(made.Components, scripts...)
	text, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(text))
	return err
}

// of is a module; one that lies beside the main one has the version of that.
func of(dep *debug.Module, version string) component {
	if to := dep.Replace; to != nil && to.Sum == "" {
		return module(dep.Path, version, "")
	} else if to != nil {
		dep = to
	}
	if dep.Version == "(devel)" {
		return module(dep.Path, version, "")
	}
	return module(dep.Path, dep.Version, dep.Sum)
}

func module(path, version, sum string) component {
	purl := "pkg:golang/" + path + "@" + version
	c := component{Type: "library", Ref: purl, Name: path, Version: version, PURL: purl}
	if sum != "" {
		c.Properties = []property{{"go:sum", sum}}
	}
	return c
}

// packages are those of npm that a lock file (lockfileVersion 3) names and the executable embeds:
// those that the licences in it name, which console/build.mjs writes.
func packages(lock string, binary []byte) (all []component, err error) {
	const folder = "node_modules/"
	text, err := os.ReadFile(lock)
	if err != nil {
		return nil, err
	}
	var locked struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(text, &locked); err != nil {
		return nil, fmt.Errorf("%s: %w", lock, err)
	}
	for _, path := range slices.Sorted(maps.Keys(locked.Packages)) {
		at := strings.LastIndex(path, folder)
		if at < 0 { // the console itself
			continue
		}
		name, p := path[at+len(folder):], locked.Packages[path]
		if !bytes.Contains(binary, []byte("\n"+name+" "+p.Version+"\n")) {
			continue
		}
		purl := "pkg:npm/" + strings.Replace(name, "@", "%40", 1) + "@" + p.Version
		c := component{Type: "library", Ref: purl, Name: name, Version: p.Version, PURL: purl}
		if sum, known := strings.CutPrefix(p.Integrity, "sha512-"); known {
			raw, err := base64.StdEncoding.DecodeString(sum)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", lock, path, err)
			}
			c.Hashes = []hash{{"SHA-512", hex.EncodeToString(raw)}}
		}
		all = append(all, c)
	}
	return all, nil
}
