package console

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the pages show was named by strangers, so nothing of it is made HTML or code, and nothing is
// kept in the browser but how it looks.
func TestSourcesMakeNoHTMLOfData(t *testing.T) {
	refused := regexp.MustCompile(`dangerouslySetInnerHTML|\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function\b|\bsrcdoc\b|sessionStorage|indexedDB|document\.cookie|window\.open|trustedTypes`)
	stored := regexp.MustCompile(`localStorage`)
	files := 0
	err := filepath.WalkDir("src", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".ts") && !strings.HasSuffix(name, ".tsx") {
			return err
		}
		files++
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for n, line := range strings.Split(string(text), "\n") {
			if is := refused.FindString(line); is != "" {
				t.Errorf("%s:%d: %s: text of the server is shown as text, and secrets are kept nowhere", name, n+1, is)
			}
			if stored.MatchString(line) && filepath.ToSlash(name) != "src/theme.ts" {
				t.Errorf("%s:%d: localStorage has the theme, and nothing else", name, n+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("%d files: is this where the sources are?", files)
	}
}

// The policy lets nothing be loaded from elsewhere, framed, or run that is no file of the server.
func TestPolicyIsStrict(t *testing.T) {
	for _, rule := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(Policy+";", rule+";") {
			t.Errorf("%q is not in %q", rule, Policy)
		}
	}
	if is := regexp.MustCompile(`unsafe|\*|https?:|blob:|'nonce|strict-dynamic`).FindString(Policy); is != "" {
		t.Errorf("%s in %q", is, Policy)
	}
}
