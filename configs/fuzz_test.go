package configs

import "testing"

// readsBack holds that a configuration that was taken is written as a file that
// gives the same values.
func readsBack(t *testing.T, c *Config) {
	t.Helper()
	again, err := merge(Sources{File: "again.toml"}, []byte(c.TOML()))
	if err != nil {
		t.Fatalf("it was taken, but the file made of it is not: %v\n%s", err, c.TOML())
	}
	for _, k := range Keys() {
		if c.Value(k) != again.Value(k) {
			t.Fatalf("%s: %s became %s", k.Name, c.Value(k), again.Value(k))
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(Default().TOML()))
	f.Add([]byte("[wal]\nmemory = 3\n[[a]]\nb.c = {d = 1}\n'x y'.z = 2"))
	f.Add([]byte("wal = {memory = '64MiB', sync = \"always\"}\n[broker.groups]\n'max_size' = 0x10\n\"a.b\" = 1979-05-27"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := merge(Sources{File: "fuzz.toml"}, text)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err == nil {
			readsBack(t, c)
		}
	})
}

func FuzzSet(f *testing.F) {
	for _, k := range Keys() {
		f.Add(k.Name + "=" + Default().Value(k))
	}
	f.Fuzz(func(t *testing.T, pair string) {
		c, err := merge(Sources{Set: []string{pair}}, nil)
		if err == nil {
			readsBack(t, c)
		}
	})
}

func FuzzEnviron(f *testing.F) {
	for _, k := range Keys() {
		f.Add(k.Env() + "=" + Default().Value(k))
	}
	f.Fuzz(func(t *testing.T, pair string) {
		c, err := merge(Sources{Environ: []string{pair}}, nil)
		if err == nil {
			readsBack(t, c)
		}
	})
}
