package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordsPerTransaction is what each transaction writes, to one partition.
const recordsPerTransaction = 10

// loadTransactions commits so many transactions, each of some records, by one producer
// for each connection, each after the other. Records are counted as transactions.
func loadTransactions(ctx context.Context, s shape) (loadResult, error) {
	s.partitions = max(s.partitions, s.connections)
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	producers := make([]*kgo.Client, s.connections)
	run := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	for i := range producers {
		cl, err := s.client(kgo.DefaultProduceTopic(s.topic), kgo.TransactionalID(fmt.Sprintf("%s-%d", run, i)),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			return loadResult{}, err
		}
		defer cl.Close()
		producers[i] = cl
	}
	payload := value(s.size)
	commit := func(transactions int) (time.Duration, error) {
		var left atomic.Int64
		left.Store(int64(transactions))
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		began := time.Now()
		for i, cl := range producers {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					if err := transact(ctx, cl, payload, int32(i)); err != nil {
						failed.CompareAndSwap(nil, &err)
						return
					}
				}
			})
		}
		wg.Wait()
		took := time.Since(began)
		if err := failed.Load(); err != nil {
			return 0, fmt.Errorf("transaction: %w", *err)
		}
		return took, nil
	}
	if _, err := commit(max(s.records/10, s.connections)); err != nil {
		return loadResult{}, err
	}
	took, err := commit(s.records)
	if err != nil {
		return loadResult{}, err
	}
	n := int64(s.records)
	return loadResult{Records: n, Bytes: n * recordsPerTransaction * int64(s.size), Seconds: took.Seconds()}, nil
}

func transact(ctx context.Context, cl *kgo.Client, payload []byte, partition int32) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	records := make([]*kgo.Record, recordsPerTransaction)
	for i := range records {
		records[i] = &kgo.Record{Value: payload, Partition: partition}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	return cl.EndTransaction(ctx, kgo.TryCommit)
}
