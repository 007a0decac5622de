package cost

import (
	"time"

	"rustmq.dev/rustmq/configs"
)

// What a bucket is set beside: a log that is replicated between disks.
const (
	Replicas = 3
	Filled   = 0.6 // of each disk; one that is fuller has no room for a busy day
)

// HoursOfMonth is 365 days in twelve.
const HoursOfMonth = 730

// GiB is what stores, disks and their prices count in.
const GiB = 1 << 30

// OnDisks is the price of a GiB of records and month on replicated disks.
func OnDisks(p configs.Prices) float64 { return p.Disk.Dollars() * Replicas / Filled }

// Copying is the price of a GiB written, for the copies that go to replicas in
// other zones.
func Copying(p configs.Prices) float64 { return p.Zone.Dollars() * (Replicas - 1) }

// Load is what is produced, kept and read. It is steady, and has lasted for
// longer than Retention.
type Load struct {
	Rate      float64 // bytes of record batches a second, as they are stored
	Groups    float64 // consumer groups, each of which reads all of it
	Retention time.Duration
	Zones     float64 // over which clients and brokers are spread evenly
	Cold      float64 // share of what is produced that is read back once from where old records are
}

// Kept is the GiB of records within the retention.
func (l Load) Kept() float64 { return l.Rate * l.Retention.Seconds() / GiB }

// Monthly is the GiB that are produced in a month.
func (l Load) Monthly() float64 { return l.Rate * HoursOfMonth * 3600 / GiB }

// abroad is the share of what goes to an even choice of zones that leaves its own.
func (l Load) abroad() float64 { return (l.Zones - 1) / l.Zones }

// Layout is what a system makes of a load.
type Layout struct {
	Disk     float64 // GiB of disks that are rented
	Bucket   float64 // GiB in the bucket
	Puts     float64 // for each GiB that is produced; lists with them
	Gets     float64 // the same
	Crossing float64 // GiB that go from one zone to another, for each GiB that is produced
}

// Bill is a month, in dollars.
type Bill struct{ Disk, Bucket, Requests, Zones float64 }

// Space is what the records cost where they lie.
func (b Bill) Space() float64 { return b.Disk + b.Bucket }

// Storage is Space with the requests that bring the records there and back.
func (b Bill) Storage() float64 { return b.Space() + b.Requests }

// Total is Storage with the traffic between zones.
func (b Bill) Total() float64 { return b.Storage() + b.Zones }

// Bill prices a layout.
func (y Layout) Bill(l Load, p configs.Prices) Bill {
	return Bill{
		Disk: y.Disk * p.Disk.Dollars(), Bucket: y.Bucket * p.Storage.Dollars(),
		Requests: l.Monthly() * (y.Puts*p.Put.Dollars() + y.Gets*p.Get.Dollars()) / 1000,
		Zones:    l.Monthly() * y.Crossing * p.Zone.Dollars(),
	}
}

// kafka keeps everything on the disks of three replicas, one a zone. Producers write
// to the leader wherever it is; consumers read from the replica in their zone.
func kafka(l Load) Layout {
	return Layout{Disk: l.Kept() * Replicas / Filled, Crossing: l.abroad() + Replicas - 1}
}

// kafkaTiered is Kafka with its own tiered storage (KIP-405): the last of it, for as
// long as local says, on replicated disks, and all closed segments in the bucket,
// where they are from the moment that they are closed. The plugin that puts them
// there is not part of Kafka: it is given the request sizes of rustmq, for segments
// of 1 GiB, which is kind to it.
func kafkaTiered(l Load, local time.Duration, s configs.Storage) Layout {
	y := kafka(l)
	y.Disk = l.Rate * local.Seconds() / GiB * Replicas / Filled
	y.Bucket = l.Kept()
	y.Puts = puts(GiB, float64(s.PartSize)) + 1 // the segment, its indexes
	y.Gets = l.Cold * coldGets
	return y
}

// What rustmq asks of the store.
const (
	// uploadObject is the least that an object of an upload has, other than where
	// it waited for wal.upload_interval: figure B1, a PUT for each 8 MiB at most,
	// however many partitions there are.
	uploadObject = 8 << 20
	// rewritten is how many times compaction writes what was uploaded. BenchmarkDay
	// of 100 partitions of 100 KiB/s has 0.99 (docs/design/0003); it is less where an
	// upload fills an object, and more where little is written.
	rewritten = 1.0
	// compactionGets are GETs of compaction for each GiB uploaded, in the same run:
	// 887,515 of 824 GiB. Each range is asked for its data, and each object once for its
	// indexes; roles/broker/compact TestRequestsForAGiB holds it to that.
	compactionGets = 887_515 / 823.56
	// coldGets are GETs for a GiB that is read back in order from objects of 64 MiB: what
	// is read ahead comes by 4 MiB (roles/broker/cold), and each has an index.
	coldGets = 256 + 16
	// roomOfLog is the share of a disk that a write-ahead log takes at most: it is
	// never more than half of what is free at the start.
	roomOfLog = 0.5
)

// puts are the requests that write an object of size in parts: one, or the beginning
// and the end of a multi-part upload besides its parts.
func puts(size, part float64) float64 {
	if size <= part {
		return 1
	}
	whole := float64(int64(size / part))
	if whole*part < size {
		whole++
	}
	return whole + 2
}

// ownLayout has the log of outage on the disk of each of nodes, and everything in
// the bucket. What compaction has replaced stays there for object_storage.grace.
func ownLayout(l Load, nodes float64, outage time.Duration, c *configs.Config) Layout {
	target, grace := float64(c.Compaction.TargetObject), time.Duration(c.Storage.Grace)
	return Layout{
		Disk:   nodes * l.Rate * outage.Seconds() / GiB / roomOfLog,
		Bucket: l.Kept() + rewritten*l.Rate*grace.Seconds()/GiB,
		Puts:   GiB/float64(uploadObject) + rewritten*GiB/target*puts(target, float64(c.Storage.PartSize)),
		Gets:   compactionGets + l.Cold*coldGets,
	}
}

// oneNode is rustmq as it is: a node in one zone, its clients in all of them. With
// all clients in the zone of the node, nothing crosses, and nothing outlives the zone
// but what is in the bucket.
func oneNode(l Load, outage time.Duration, c *configs.Config) Layout {
	y := ownLayout(l, 1, outage, c)
	y.Crossing = l.abroad() * (1 + l.Groups)
	return y
}

// replicated is rustmq with a node in each of three
// zones, the log of each with a copy of the tail, and what left it in the bucket
// alone. Consumers read in their own zone, as [Kafka]'s do.
func replicated(l Load, outage time.Duration, c *configs.Config) Layout {
	y := ownLayout(l, Replicas, outage, c)
	y.Crossing = kafka(l).Crossing
	return y
}
