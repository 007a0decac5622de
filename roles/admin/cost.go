package admin

import (
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/cost"
	"rustmq.dev/rustmq/storage/bucket"
)

// leastForecast is how long must have been counted before a month is foretold.
const leastForecast = time.Minute

// Usage is what a cost is calculated from.
type Usage struct {
	Since, Now time.Time // the requests were counted between
	Counts     bucket.Counts
	Uploaded   int64 // bytes of objects that brought records for the first time, since Since
	Stored     int64 // bytes of all objects
	Records    int64 // bytes of record batches in them that are kept
	Prices     configs.Prices
}

// Cost is what the bucket costs at list prices, in dollars.
type Cost struct {
	Since          time.Time      `json:"since" doc:"requests are counted by this process from then on"`
	Requests       []RequestCost  `json:"requests"`
	RequestDollars float64        `json:"request_dollars"`
	WrittenBytes   int64          `json:"written_bytes" doc:"uploaded since then, by this process; what compaction writes is not counted again"`
	PerGiBWritten  float64        `json:"dollars_per_gib_written,omitempty" doc:"all requests, those of compaction and reading too, for each of these GiB"`
	Amplification  float64        `json:"amplification,omitempty" doc:"all bytes that were put, by those that were uploaded"`
	StoredBytes    int64          `json:"stored_bytes" doc:"of all objects"`
	RecordBytes    int64          `json:"record_bytes" doc:"of the records in them that are kept"`
	PerGiBMonth    float64        `json:"dollars_per_gib_month" doc:"of storage, for each GiB of records, with what lies around them"`
	Month          MonthCost      `json:"month" doc:"what is stored now, and requests as since the start"`
	Disks          DiskCost       `json:"disks" doc:"the same records on replicated disks instead"`
	Cheaper        float64        `json:"cheaper" doc:"storage on disks, in multiples of that in the bucket"`
	Prices         DollarsPerUnit `json:"prices"`
}

// RequestCost is that of one class of requests.
type RequestCost struct {
	Class    string  `json:"class"`
	Requests uint64  `json:"requests"`
	Bytes    uint64  `json:"bytes"`
	Dollars  float64 `json:"dollars"`
}

// MonthCost is that of a month.
type MonthCost struct {
	Storage  float64 `json:"storage"`
	Requests float64 `json:"requests,omitempty" doc:"not foretold from less than a minute"`
}

// DiskCost is that of replicated disks.
type DiskCost struct {
	Replicas    int     `json:"replicas"`
	Filled      float64 `json:"filled" doc:"share of each disk that is used"`
	PerGiBMonth float64 `json:"dollars_per_gib_month"`
	Month       float64 `json:"month"`
	// Each GiB goes to the disks of two other zones.
	PerGiBWritten float64 `json:"dollars_per_gib_written" doc:"of copies to replicas in two other zones"`
}

// DollarsPerUnit are the prices.
type DollarsPerUnit struct {
	Storage float64 `json:"storage" doc:"a GiB and a month"`
	Put     float64 `json:"put" doc:"1000 requests"`
	Get     float64 `json:"get" doc:"1000 requests, also heads"`
	List    float64 `json:"list" doc:"1000 requests"`
	Disk    float64 `json:"disk" doc:"a GiB of disk and a month"`
	Zone    float64 `json:"zone" doc:"a GiB from one zone to another"`
	Source  string  `json:"source"`
}

// CostOf calculates what usage costs. What leaves the store's network is not part
// of it.
func CostOf(u Usage) Cost {
	p := u.Prices
	c := Cost{
		Since: u.Since, StoredBytes: u.Stored, RecordBytes: u.Records, WrittenBytes: u.Uploaded,
		PerGiBMonth: p.Storage.Dollars(),
		Prices: DollarsPerUnit{
			Storage: p.Storage.Dollars(), Put: p.Put.Dollars(), Get: p.Get.Dollars(), List: p.List.Dollars(), Disk: p.Disk.Dollars(), Zone: p.Zone.Dollars(), Source: p.Source,
		},
	}
	per1000 := [bucket.Classes]configs.Price{bucket.ClassPut: p.Put, bucket.ClassGet: p.Get, bucket.ClassHead: p.Get, bucket.ClassList: p.List}
	for class, count := range u.Counts {
		r := RequestCost{
			Class: bucket.Class(class).String(), Requests: count.Requests, Bytes: count.Bytes,
			Dollars: float64(count.Requests) / 1000 * per1000[class].Dollars(),
		}
		c.Requests = append(c.Requests, r)
		c.RequestDollars += r.Dollars
	}
	if c.WrittenBytes > 0 {
		c.PerGiBWritten = c.RequestDollars / (float64(c.WrittenBytes) / cost.GiB)
		c.Amplification = float64(u.Counts[bucket.ClassPut].Bytes) / float64(c.WrittenBytes)
	}
	c.Month.Storage = float64(u.Stored) / cost.GiB * p.Storage.Dollars()
	if u.Records > 0 {
		c.PerGiBMonth = c.Month.Storage / (float64(u.Records) / cost.GiB)
	}
	if counted := u.Now.Sub(u.Since); counted >= leastForecast {
		c.Month.Requests = c.RequestDollars / counted.Hours() * cost.HoursOfMonth
	}
	c.Disks = DiskCost{Replicas: cost.Replicas, Filled: cost.Filled, PerGiBMonth: cost.OnDisks(p), PerGiBWritten: cost.Copying(p)}
	c.Disks.Month = float64(u.Records) / cost.GiB * c.Disks.PerGiBMonth
	if c.PerGiBMonth > 0 {
		c.Cheaper = c.Disks.PerGiBMonth / c.PerGiBMonth
	}
	return c
}
