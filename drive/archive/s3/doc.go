// Package s3 is a bucket of an S3-compatible object store, by way of minio-go, as drive/archive needs one. It knows objects and names; no feed, no cache.
//
// # Where
//
// A store is named s3://BUCKET/PREFIX?endpoint=URL&region=NAME. Both parameters may be left out: the endpoint then comes from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, or
// is Amazon's; the region from AWS_REGION or AWS_DEFAULT_REGION, or is us-east-1. An endpoint without a scheme means https; http has to be asked for. Buckets at an
// endpoint of one's own are addressed by path.
//
// # Who
//
// Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from the profile AWS_PROFILE of the file AWS_SHARED_CREDENTIALS_FILE
// (~/.aws/credentials). There is no other way in: an argument or a URL shows in the list of processes. The file is read again when a request is
// refused for its credentials, so they can be changed under a running node. Nothing of them is in an error: minio-go's errors have the server's words, the
// bucket and the name.
//
// # Requests
//
// Each call is one request. It is not repeated here: the archive knows what may be, and when. Objects are put in one piece with their MD5, and conditionally:
// If-None-Match: * for one that must not exist, If-Match for the successor of a version. The server has to support both (Amazon does since 2024, MinIO, Ceph since
// Tentacle, versitygw, Garage does not); Check tries it out, since a server that does not know them would write over what another instance stored.
//
// Sources: the S3 API reference (PutObject, GetObject, ListObjectsV2, conditional writes), minio-go 7.4.1.
package s3
