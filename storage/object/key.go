package object

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/storage"
)

// maxCluster is the longest cluster id: the header has that much room. Those
// that rustmq makes have 22 characters.
const maxCluster = 64

// CheckCluster returns an error unless id can be a part of a key: 1 to 64
// letters, digits, - and _.
func CheckCluster(id string) error {
	if len(id) == 0 || len(id) > maxCluster {
		return fmt.Errorf("cluster id of %d characters: want 1 to %d", len(id), maxCluster)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("cluster id %q: want letters, digits, - and _", id)
		}
	}
	return nil
}

// ClusterPrefix begins every key of a cluster. Nothing outside is the cluster's.
// prefix is the configured one, without slashes at its ends; empty: none.
func ClusterPrefix(prefix, cluster string) string {
	if err := CheckCluster(cluster); err != nil {
		panic(err) // it comes from our own metadata
	}
	if prefix != "" {
		prefix += "/"
	}
	return prefix + cluster + "/"
}

// DataPrefix begins the key of every object of an incarnation.
func DataPrefix(prefix, cluster string, incarnation uint32) string {
	return ClusterPrefix(prefix, cluster) + fmt.Sprintf("%08x/data/", incarnation)
}

// Key is where an object lies in the bucket. It panics on a cluster id that
// [CheckCluster] refuses.
func Key(prefix, cluster string, incarnation uint32, id storage.ObjectID) string {
	digits := id.String()
	return DataPrefix(prefix, cluster, incarnation) + digits[14:] + "/" + digits
}

// ParsedKey is what a key says.
type ParsedKey struct {
	Cluster     string
	Incarnation uint32
	ID          storage.ObjectID
}

// ParseKey reads what [Key] writes, and nothing else: any other key of the
// bucket is an error.
func ParseKey(prefix, key string) (ParsedKey, error) {
	no := func(why error) (ParsedKey, error) {
		return ParsedKey{}, fmt.Errorf("key %q is not an object's: %w", key, why)
	}
	rest := key
	if prefix != "" {
		var ok bool
		if rest, ok = strings.CutPrefix(key, prefix+"/"); !ok {
			return no(fmt.Errorf("it does not begin with %q", prefix+"/"))
		}
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 5 {
		return no(errors.New("want CLUSTER/INCARNATION/data/XX/ID"))
	}
	if err := CheckCluster(parts[0]); err != nil {
		return no(err)
	}
	incarnation, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return no(err)
	}
	id, err := storage.ParseObjectID(parts[4])
	if err != nil {
		return no(err)
	}
	p := ParsedKey{Cluster: parts[0], Incarnation: uint32(incarnation), ID: id}
	if Key(prefix, p.Cluster, p.Incarnation, p.ID) != key {
		return no(errors.New("it is not written as rustmq does"))
	}
	return p, nil
}
