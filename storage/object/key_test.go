package object

import (
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
)

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		prefix, key string
		want        ParsedKey
	}{
		{"", "Xy_9-/00000001/data/2a/000000000000002a", ParsedKey{"Xy_9-", 1, 0x2a}},
		{"a/b", "a/b/c/ffffffff/data/ef/0123456789abcdef", ParsedKey{"c", 1<<32 - 1, 0x0123456789abcdef}},
	} {
		if got := Key(c.prefix, c.want.Cluster, c.want.Incarnation, c.want.ID); got != c.key {
			t.Errorf("the key of %+v is %s, want %s", c.want, got, c.key)
		}
		if got, err := ParseKey(c.prefix, c.key); err != nil || got != c.want {
			t.Errorf("%s is read as %+v, %v", c.key, got, err)
		}
		if !strings.HasPrefix(c.key, DataPrefix(c.prefix, c.want.Cluster, c.want.Incarnation)) || !strings.HasPrefix(c.key, ClusterPrefix(c.prefix, c.want.Cluster)) {
			t.Errorf("%s lies elsewhere than its prefixes", c.key)
		}
	}
	for _, key := range []string{
		"", "c", "c/00000001/data/2a", "c/00000001/data/2a/2a", "c/00000001/data/2b/000000000000002a",
		"c/1/data/2a/000000000000002a", "c/00000001/meta/2a/000000000000002a", "c/00000001/data/2A/000000000000002A",
		"c/00000001/data/2a/000000000000002a/", "c/00000001/data/2a/000000000000002a.tmp", "/00000001/data/2a/000000000000002a",
		"../00000001/data/2a/000000000000002a", "a/c/00000001/data/2a/000000000000002a", "c/0000000g/data/2a/000000000000002a",
		"c/00000001/data/2a/+00000000000002a", "c/000000001/data/2a/000000000000002a",
	} {
		if got, err := ParseKey("", key); err == nil {
			t.Errorf("%q is read as %+v", key, got)
		}
	}
	if got, err := ParseKey("other", "c/00000001/data/2a/000000000000002a"); err == nil {
		t.Errorf("a key of another prefix is read as %+v", got)
	}
}

// TestClusterIDsStayInTheirKeys: no cluster id reaches out of its prefix.
func TestClusterIDsStayInTheirKeys(t *testing.T) {
	for _, id := range []string{"", ".", "..", "a/b", "a b", "ä", "a\x00", strings.Repeat("a", 65)} {
		if CheckCluster(id) == nil {
			t.Errorf("%q is a cluster id", id)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a key was made of the cluster id %q", id)
				}
			}()
			Key("", id, 1, 1)
		}()
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("", "c/00000001/data/2a/000000000000002a")
	f.Add("p", "p/c/00000001/data/2a/000000000000002a")
	f.Fuzz(func(t *testing.T, prefix, key string) {
		if p, err := ParseKey(prefix, key); err == nil && Key(prefix, p.Cluster, p.Incarnation, p.ID) != key {
			t.Fatalf("%q is read as %+v", key, p)
		}
	})
}

func TestObjectIDsAreWrittenOneWay(t *testing.T) {
	for _, s := range []string{"", "2a", "000000000000002A", "0x0000000000002a", "00000000000000002a", "+00000000000002a"} {
		if id, err := storage.ParseObjectID(s); err == nil {
			t.Errorf("%q is read as %d", s, id)
		}
	}
	if id, err := storage.ParseObjectID("ffffffffffffffff"); err != nil || id != 1<<64-1 {
		t.Errorf("%d, %v", id, err)
	}
}
