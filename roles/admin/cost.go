package admin

import (
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/bucket"
)

// What the bucket is set beside: a log that is replicated between disks.
const (
	diskReplicas = 3
	diskFilled   = 0.6 // of each; a log that is fuller has no room for a busy day
)

const (
	hoursOfMonth = 730
	gib          = 1 << 30
	// leastForecast is how long must have been counted before a month is foretold.
	leastForecast = time.Minute
)

// Usage is what a cost is calculated from.
type Usage struct {
	Since, Now time.Time // the requests were counted between
	Counts     bucket.Counts
	Stored     int64 // bytes of all objects
	Records    int64 // bytes of record batches in them that are kept
	Prices     configs.Prices
}

// Cost is what the bucket costs at list prices, in dollars.
type Cost struct {
	Since          time.Time      `json:"since" doc:"requests are counted by this process from then on"`
	Requests       []RequestCost  `json:"requests"`
	RequestDollars float64        `json:"request_dollars"`
	WrittenBytes   int64          `json:"written_bytes" doc:"put into the bucket since then"`
	PerGiBWritten  float64        `json:"dollars_per_gib_written,omitempty" doc:"all requests, for each GiB that was written"`
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
}

// DollarsPerUnit are the prices.
type DollarsPerUnit struct {
	Storage float64 `json:"storage" doc:"a GiB and a month"`
	Put     float64 `json:"put" doc:"1000 requests"`
	Get     float64 `json:"get" doc:"1000 requests, also heads"`
	List    float64 `json:"list" doc:"1000 requests"`
	Disk    float64 `json:"disk" doc:"a GiB of disk and a month"`
	Source  string  `json:"source"`
}

// CostOf calculates what usage costs. What leaves the store's network is not part
// of it.
func CostOf(u Usage) Cost {
	p := u.Prices
	c := Cost{
		Since: u.Since, StoredBytes: u.Stored, RecordBytes: u.Records, WrittenBytes: int64(u.Counts[bucket.ClassPut].Bytes),
		PerGiBMonth: p.Storage.Dollars(),
		Prices: DollarsPerUnit{
			Storage: p.Storage.Dollars(), Put: p.Put.Dollars(), Get: p.Get.Dollars(), List: p.List.Dollars(), Disk: p.Disk.Dollars(), Source: p.Source,
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
		c.PerGiBWritten = c.RequestDollars / (float64(c.WrittenBytes) / gib)
	}
	c.Month.Storage = float64(u.Stored) / gib * p.Storage.Dollars()
	if u.Records > 0 {
		c.PerGiBMonth = c.Month.Storage / (float64(u.Records) / gib)
	}
	if counted := u.Now.Sub(u.Since); counted >= leastForecast {
		c.Month.Requests = c.RequestDollars / counted.Hours() * hoursOfMonth
	}
	c.Disks = DiskCost{Replicas: diskReplicas, Filled: diskFilled, PerGiBMonth: p.Disk.Dollars() * diskReplicas / diskFilled}
	c.Disks.Month = float64(u.Records) / gib * c.Disks.PerGiBMonth
	if c.PerGiBMonth > 0 {
		c.Cheaper = c.Disks.PerGiBMonth / c.PerGiBMonth
	}
	return c
}
