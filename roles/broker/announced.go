package broker

import (
	"slices"

	"rustmq.dev/rustmq/transport/kafka"
)

// AllVersions returns what clients of a node are told: [Broker.Versions], and
// ApiVersions, which the transport answers.
func AllVersions() []kafka.ApiVersion {
	b := Broker{apis: apisByKey()}
	versions := append(b.Versions(), kafka.OwnVersions())
	slices.SortFunc(versions, func(a, b kafka.ApiVersion) int { return int(a.Key) - int(b.Key) })
	return versions
}
