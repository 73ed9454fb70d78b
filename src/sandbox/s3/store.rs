//! Owns what the operations of S3 do: bytes to s3s-fs under blob names, keys to the table.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};
use tokio_util::io::ReaderStream;

use super::blob::Blob;
use super::conditions::{ReadConditions, WriteConditions, time_of};
use super::listing;
use super::objects::{Object, Objects};
use super::root::Root;
use super::uploads::{Part, Upload, Uploads};
use crate::sandbox::clock::Clock;

/// Objects are read in pieces of this size.
const PIECE: usize = 1 << 20;

/// All buckets, and the uploads to them; clones share them.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) objects: Arc<Objects>,
    uploads: Arc<Uploads>,
    clock: Clock,
}

impl Store {
    /// Opens `buckets` beneath `root`, and those of `elsewhere` beneath roots that others may use at the same time.
    pub(super) fn open(
        root: &Path,
        buckets: &[String],
        elsewhere: &BTreeMap<String, PathBuf>,
        clock: Clock,
    ) -> io::Result<Store> {
        let objects = Objects::default();
        let (away, here): (Vec<_>, Vec<_>) = buckets.iter().cloned().partition(|name| elsewhere.contains_key(name));
        let own = Arc::new(Root::open(root, &here, false)?);
        for name in &here {
            objects.open(name, &own)?;
        }
        for name in away {
            let root = Arc::new(Root::open(&elsewhere[&name], std::slice::from_ref(&name), true)?);
            objects.open(&name, &root)?;
        }
        Ok(Store { objects: Arc::new(objects), uploads: Arc::default(), clock })
    }

    fn found(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.objects.find(bucket, key)?.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        self.root(bucket).map(drop)
    }

    fn root(&self, bucket: &str) -> S3Result<Arc<Root>> {
        self.objects.root(bucket)
    }

    /// Lets `key` mean a blob that is written.
    fn publish(
        &self,
        (bucket, key): (&str, &str),
        blob: Arc<Blob>,
        etag: Option<ETag>,
        conditions: &WriteConditions,
    ) -> S3Result<()> {
        let size = std::fs::metadata(blob.path()).map_err(|error| s3_error!(error, InternalError))?.len();
        let etag = etag.map(ETag::into_value).ok_or_else(|| s3_error!(InternalError, "a write without an ETag"))?;
        let object = Object { blob, etag, size, modified: self.clock.now() };
        self.objects.put(bucket, key, object, conditions)
    }
}

#[async_trait::async_trait]
impl s3s::S3 for Store {
    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = &mut req.input;
        let conditions = WriteConditions { if_match: input.if_match.take(), if_none_match: input.if_none_match.take() };
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        conditions.check(self.objects.find(&bucket, &key)?.as_ref())?;
        let blob = self.objects.new_blob(&bucket)?;
        input.key.clone_from(&blob.name);
        let response = self.root(&bucket)?.write.put_object(req).await?;
        self.publish((&bucket, &key), blob, response.output.e_tag.clone(), &conditions)?;
        Ok(response)
    }

    async fn get_object(&self, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let object = self.found(&req.input.bucket, &req.input.key)?;
        let input = &req.input;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        };
        conditions.check(&object)?;
        req.input.key.clone_from(&object.blob.name);
        let whole = req.input.range.is_none();
        let root = self.root(&req.input.bucket)?;
        let mut response = root.read.get_object(req).await?;
        response.output.last_modified = Some(time_of(object.modified.as_second()));
        if whole {
            response.output.body = Some(in_large_pieces(&object).await?);
        }
        Ok(response)
    }

    async fn head_object(&self, mut req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.found(&req.input.bucket, &req.input.key)?;
        let input = &req.input;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        };
        conditions.check(&object)?;
        req.input.key.clone_from(&object.blob.name);
        let root = self.root(&req.input.bucket)?;
        let mut response = root.read.head_object(req).await?;
        response.output.last_modified = Some(time_of(object.modified.as_second()));
        Ok(response)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, if_match, .. } = req.input;
        let conditions = WriteConditions { if_match, if_none_match: None };
        self.objects.delete(&bucket, &key, &conditions)?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), StatusCode::NO_CONTENT))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        if delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML, "at most 1000 keys"));
        }
        let mut deleted = Vec::new();
        for object in delete.objects {
            self.objects.delete(&bucket, &object.key, &WriteConditions::default())?;
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let deleted = Some(deleted).filter(|_| delete.quiet != Some(true));
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }

    async fn copy_object(&self, mut req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.check_bucket(&bucket)?;
        let CopySource::Bucket { bucket: from, key: source, .. } = &mut req.input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let object = self.found(from, source)?;
        let root = self.root(&bucket)?;
        // s3s-fs copies within one folder, and leaves half a copy there if it is killed.
        if root.shared || from.as_ref() != bucket {
            return Err(s3_error!(NotImplemented));
        }
        *source = object.blob.name.clone().into_boxed_str();
        let blob = Blob::new(&root.blobs, &bucket);
        req.input.key.clone_from(&blob.name);
        let response = root.read.copy_object(req).await?;
        let etag = response.output.copy_object_result.as_ref().and_then(|result| result.e_tag.clone());
        self.publish((&bucket, &key), blob, etag, &WriteConditions::default())?;
        Ok(response)
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = req.input.bucket.clone();
        let output = self.objects.in_bucket(&bucket, |keys| listing::list(req.input, keys))??;
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.check_bucket(&bucket)?;
        let blob = self.objects.new_blob(&bucket)?;
        req.input.key.clone_from(&blob.name);
        let mut response = self.root(&bucket)?.write.create_multipart_upload(req).await?;
        let id = response.output.upload_id.clone().ok_or_else(|| s3_error!(InternalError))?;
        let upload = Upload { bucket, key: key.clone(), blob, since: self.clock.now(), parts: Default::default() };
        self.uploads.add(id, upload);
        response.output.key = Some(key);
        Ok(response)
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = &mut req.input;
        let (id, number, length) = (input.upload_id.clone(), input.part_number, input.content_length);
        let upload = self.uploads.find(&id, &input.bucket, &input.key)?;
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
        }
        input.key.clone_from(&upload.blob.name);
        let root = self.root(&input.bucket)?;
        let response = root.write.upload_part(req).await?;
        // s3s has checked that so many bytes came.
        let size = length.and_then(|length| u64::try_from(length).ok());
        let etag = response.output.e_tag.clone();
        let (size, etag) = size.zip(etag).ok_or_else(|| s3_error!(MissingContentLength))?;
        self.uploads.add_part(&id, number, Part { etag, size, modified: self.clock.now() });
        Ok(response)
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = &mut req.input;
        let conditions = WriteConditions { if_match: input.if_match.take(), if_none_match: input.if_none_match.take() };
        let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
        let upload = self.uploads.find(&id, &bucket, &key)?;
        let listed = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
        upload.check(listed, input.mpu_object_size)?;
        conditions.check(self.objects.find(&bucket, &key)?.as_ref())?;
        // From here on it is ours alone: whoever comes later finds no upload.
        let upload = self.uploads.remove(&id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        input.key.clone_from(&upload.blob.name);
        let output = self.root(&bucket)?.write.complete_multipart_upload(req).await?.output;
        let mut output = match output.future {
            Some(later) => later.await?,
            None => output,
        };
        self.publish((&bucket, &key), upload.blob, output.e_tag.clone(), &conditions)?;
        output.key = Some(key);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        mut req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = &mut req.input;
        let upload = self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        self.uploads.remove(&input.upload_id);
        input.key.clone_from(&upload.blob.name);
        let root = self.root(&input.bucket)?;
        let output = root.write.abort_multipart_upload(req).await?.output;
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let ListPartsInput { bucket, key, upload_id, .. } = req.input;
        let upload = self.uploads.find(&upload_id, &bucket, &key)?;
        let parts = upload.parts.into_iter().map(|(number, part)| s3s::dto::Part {
            part_number: Some(number),
            e_tag: Some(part.etag),
            size: i64::try_from(part.size).ok(),
            last_modified: Some(moment(part.modified)),
            ..Default::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload_id),
            parts: Some(parts.collect()),
            is_truncated: Some(false),
            ..ListPartsOutput::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let ListMultipartUploadsInput { bucket, prefix, .. } = req.input;
        self.check_bucket(&bucket)?;
        let wanted = prefix.clone().unwrap_or_default();
        let mut uploads: Vec<_> = self.uploads.of_bucket(&bucket).into_iter().collect();
        uploads.retain(|(_, upload)| upload.key.starts_with(&wanted));
        uploads.sort_by(|(_, one), (_, other)| (&one.key, one.since).cmp(&(&other.key, other.since)));
        let uploads = uploads.into_iter().map(|(id, upload)| MultipartUpload {
            upload_id: Some(id),
            key: Some(upload.key),
            initiated: Some(moment(upload.since)),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(bucket),
            prefix,
            uploads: Some(uploads.collect()),
            is_truncated: Some(false),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.check_bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.check_bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }
}

/// s3s-fs reads pieces of 4 KiB, which costs more than all else where an object is an agent or a cache.
async fn in_large_pieces(object: &Object) -> S3Result<StreamingBlob> {
    let file = tokio::fs::File::open(object.blob.path()).await.map_err(|error| s3_error!(error, InternalError))?;
    Ok(StreamingBlob::wrap(ReaderStream::with_capacity(file, PIECE)))
}

fn moment(time: Timestamp) -> s3s::dto::Timestamp {
    time_of(time.as_second())
}
