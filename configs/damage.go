package configs

import (
	"strconv"
	"strings"
)

// AcceptDamageList is AcceptDamage, one by one.
func (w WAL) AcceptDamageList() []string {
	var all []string
	for name := range strings.SplitSeq(w.AcceptDamage, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// namesDamage reports whether a name is topic/partition@offset.
func namesDamage(name string) bool {
	topic, place, _ := strings.Cut(name, "/")
	partition, offset, _ := strings.Cut(place, "@")
	_, errPartition := strconv.ParseUint(partition, 10, 31)
	_, errOffset := strconv.ParseUint(offset, 10, 63)
	return topic != "" && errPartition == nil && errOffset == nil
}
