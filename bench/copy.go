package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// copiesAtOnce is how many objects a bare copy has under way: as many as uploads of
// rustmq have.
const copiesAtOnce = 3

// copyBuffer is the memory that a copy receives into, again and again.
const copyBuffer = 1 << 20

// copyPrefix is where a bare copy puts objects.
const copyPrefix = "copy/"

// loadS3Put puts the files of the objects below -dir, each by one request, into the
// S3 server at -broker: what a copy of them costs that does nothing else.
func loadS3Put(ctx context.Context, s shape) (loadResult, error) {
	client := s.s3Client()
	return s.copyAll(func(key, file string) (int64, error) {
		f, err := os.Open(file)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(s3Bucket), Key: aws.String(copyPrefix + key), Body: f})
		return info.Size(), err
	})
}

// loadS3Get gets the same objects whole, and looks at no byte of them.
func loadS3Get(ctx context.Context, s shape) (loadResult, error) {
	client := s.s3Client()
	buffers := sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}
	return s.copyAll(func(key, _ string) (int64, error) {
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(s3Bucket), Key: aws.String(key)})
		if err != nil {
			return 0, err
		}
		defer out.Body.Close()
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		return io.CopyBuffer(struct{ io.Writer }{io.Discard}, out.Body, *b)
	})
}

func (s shape) s3Client() *s3.Client {
	return s3.New(s3.Options{
		Region: s3Region, BaseEndpoint: aws.String("http://" + s.broker), UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s3Key, SecretAccessKey: s3Secret}, nil
		}),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// copyAll calls one for each file of an object, several at a time.
func (s shape) copyAll(one func(key, file string) (int64, error)) (loadResult, error) {
	files, err := objectFiles(s.dir)
	if err != nil {
		return loadResult{}, err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards result and err
	var result loadResult
	work := make(chan string, len(files))
	for _, f := range files {
		work <- f
	}
	close(work)
	began := time.Now()
	for range copiesAtOnce {
		wg.Go(func() {
			for key := range work {
				n, failed := one(key, filepath.Join(s.dir, key))
				mu.Lock()
				result.Records++
				result.Bytes += n
				if failed != nil {
					err = fmt.Errorf("copy %s: %w", key, failed)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	result.Seconds = time.Since(began).Seconds()
	return result, err
}

// objectFiles are the keys of the objects of records in a bucket that is a directory.
func objectFiles(root string) (keys []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err == nil && d.Type().IsRegular() && strings.Contains(key, "/data/") && !strings.HasPrefix(key, copyPrefix) {
			keys = append(keys, key)
		}
		return err
	})
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("no objects in %s", root)
	}
	return keys, err
}
