package object

import (
	"strings"
	"testing"
)

func TestKeysOfModules(t *testing.T) {
	hash := strings.Repeat("\xa5", 32)
	key := ModuleKey("p", "c", hash)
	if want := "p/c/etl/" + strings.Repeat("a5", 32) + ".wasm"; key != want {
		t.Fatalf("%s, not %s", key, want)
	}
	if got, err := ParseModuleKey("p", "c", key); err != nil || got != hash {
		t.Errorf("%x %v", got, err)
	}
	for _, other := range []string{
		"", "p/c/etl/", strings.ToUpper(key), key[:len(key)-1], "x" + key, strings.Replace(key, "a5", "", 1), strings.Replace(key, "a5", "zz", 1),
		ModuleKey("p", "d", hash), ModuleKey("", "c", hash), strings.Replace(key, "etl/", "etl/etl/", 1),
	} {
		if got, err := ParseModuleKey("p", "c", other); err == nil {
			t.Errorf("%q is of module %x", other, got)
		}
	}
	if _, err := ParseKey("p", key); err == nil {
		t.Error("a module is taken for an object")
	}
}
