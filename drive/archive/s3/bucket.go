package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"hyphafs.org/hyphafs/drive/archive"
)

// Bucket is a bucket, or the part of one below a prefix. All methods may be called from many goroutines at once. It implements archive.Bucket.
type Bucket struct {
	client *minio.Client
	core   minio.Core
	bucket string
	prefix string
	creds  *credentials.Credentials
	idle   *http.Transport
}

var _ archive.Bucket = (*Bucket)(nil)

// Open returns the bucket that the URL raw names. It makes no request.
func Open(raw string) (*Bucket, error) {
	l, err := parse(raw, environment)
	if err != nil {
		return nil, err
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	if v, err := creds.GetWithContext(nil); err != nil || v.AccessKeyID == "" {
		return nil, errors.New("no credentials for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials")
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 8 * time.Second, // a server that is silent is found out before the time for a slow transfer is over
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
	}
	lookup := minio.BucketLookupAuto
	if l.own {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(l.endpoint, &minio.Options{Creds: creds, Secure: l.secure, Region: l.region, Transport: transport, BucketLookup: lookup, MaxRetries: 1})
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Bucket{client: client, core: minio.Core{Client: client}, bucket: l.bucket, prefix: l.prefix, creds: creds, idle: transport}, nil
}

// Close lets go of idle connections.
func (b *Bucket) Close() { b.idle.CloseIdleConnections() }

// Get implements archive.Bucket.
func (b *Bucket) Get(ctx context.Context, name string, known archive.Tag, limit int64) ([]byte, archive.Tag, error) {
	var opts minio.GetObjectOptions
	if known != "" {
		if err := opts.SetMatchETagExcept(string(known)); err != nil {
			return nil, "", err
		}
	}
	body, info, _, err := b.core.GetObject(ctx, b.bucket, b.prefix+name, opts)
	if err != nil {
		return nil, "", b.answer(err)
	}
	defer body.Close() // an error of closing what was read to its end says nothing
	if info.Size > limit {
		return nil, "", fmt.Errorf("%s has %d bytes: %w", name, info.Size, archive.ErrTooLarge)
	}
	read, err := io.ReadAll(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, "", b.answer(err)
	case int64(len(read)) > limit:
		return nil, "", fmt.Errorf("%s has more than %d bytes: %w", name, limit, archive.ErrTooLarge)
	case info.Size >= 0 && int64(len(read)) != info.Size:
		return nil, "", fmt.Errorf("%s ended after %d of %d bytes", name, len(read), info.Size)
	}
	return read, archive.Tag(info.ETag), nil
}

// Put implements archive.Bucket.
func (b *Bucket) Put(ctx context.Context, name string, body []byte, old archive.Tag) (archive.Tag, error) {
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true}
	if old == "" {
		opts.SetMatchETagExcept("*")
	} else {
		opts.SetMatchETag(string(old))
	}
	info, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, bytes.NewReader(body), int64(len(body)), opts)
	if err != nil {
		if err = b.answer(err); errors.Is(err, archive.ErrNoObject) { // If-Match, but there is nothing
			err = fmt.Errorf("%s is gone: %w", name, archive.ErrChanged)
		}
		return "", err
	}
	return archive.Tag(info.ETag), nil
}

// Delete implements archive.Bucket.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	err := b.answer(b.client.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}))
	if errors.Is(err, archive.ErrNoObject) {
		return nil
	}
	return err
}

// List implements archive.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string, limit int) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var names []string
	for object := range b.client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
		if object.Err != nil {
			return nil, b.answer(object.Err)
		}
		if names = append(names, strings.TrimPrefix(object.Key, b.prefix)); len(names) == limit {
			break
		}
	}
	return names, nil
}

// answer makes the archive's errors of the server's.
func (b *Bucket) answer(err error) error {
	if err == nil {
		return nil
	}
	r := minio.ToErrorResponse(err)
	switch {
	case r.Code == minio.NoSuchKey || r.StatusCode == http.StatusNotFound && r.Code != minio.NoSuchBucket:
		return fmt.Errorf("%w: %w", archive.ErrNoObject, err)
	case r.StatusCode == http.StatusNotModified:
		return archive.ErrUnchanged
	case r.StatusCode == http.StatusPreconditionFailed, r.Code == "ConditionalRequestConflict":
		return fmt.Errorf("%w: %w", archive.ErrChanged, err)
	case r.StatusCode >= 400 && r.StatusCode < 500 && r.StatusCode != http.StatusRequestTimeout && r.StatusCode != http.StatusTooManyRequests:
		err = fmt.Errorf("%w: %w", archive.ErrUnusable, err)
	}
	switch r.Code {
	case "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		b.creds.Expire() // they may have been changed in the file
	}
	return err
}

// Check implements archive.Bucket. It finds out whether the bucket can be used: that it is there, that the credentials may read, write, list and delete, and that the server heeds conditions. It writes
// one object of a random name and deletes it.
func (b *Bucket) Check(ctx context.Context) (err error) {
	name := "check-" + strings.ToLower(rand.Text())
	defer func() {
		if gone := b.Delete(ctx, name); err == nil && gone != nil {
			err = fmt.Errorf("the store cannot be deleted from: %w", gone)
		}
	}()
	tag, err := b.Put(ctx, name, []byte("1"), "")
	if err != nil {
		return fmt.Errorf("the store cannot be written to: %w", err)
	}
	if _, err := b.Put(ctx, name, []byte("2"), ""); !errors.Is(err, archive.ErrChanged) {
		return careless("If-None-Match", err)
	}
	next, err := b.Put(ctx, name, []byte("2"), tag)
	if err != nil {
		return fmt.Errorf("the store cannot be written to: %w", err)
	}
	if _, err := b.Put(ctx, name, []byte("3"), tag); !errors.Is(err, archive.ErrChanged) {
		return careless("If-Match", err)
	}
	if body, _, err := b.Get(ctx, name, "", 10); err != nil || string(body) != "2" {
		return fmt.Errorf("the store does not give back what was written: %w", errors.Join(err, fmt.Errorf("%d bytes", len(body))))
	}
	if _, _, err := b.Get(ctx, name, next, 10); !errors.Is(err, archive.ErrUnchanged) {
		return careless("If-None-Match of a GET", err)
	}
	if names, err := b.List(ctx, name, 2); err != nil || len(names) != 1 || names[0] != name {
		return fmt.Errorf("the store cannot be listed: %w", errors.Join(err, fmt.Errorf("%d names", len(names))))
	}
	return nil
}

// careless is what is wrong with a server that did not refuse what a condition forbids, or err if something else is.
func careless(header string, err error) error {
	if err != nil {
		return fmt.Errorf("the store cannot be written to: %w", err)
	}
	return fmt.Errorf("%w: the server does not heed %s, without which several instances would damage each other's feeds", archive.ErrUnusable, header)
}
