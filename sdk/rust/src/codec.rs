//! Values as bytes, and back.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use crate::error::Error;

/// An error of a handler, or of a codec.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns values of a type into bytes and back.
///
/// ```
/// use rustmq::{BoxError, Codec};
/// use bytes::Bytes;
///
/// /// Numbers as text.
/// struct Decimal;
///
/// impl Codec for Decimal {
///     type Value = i64;
///     fn encode(&self, value: &i64) -> Result<Bytes, BoxError> {
///         Ok(value.to_string().into())
///     }
///     fn decode(&self, bytes: Bytes) -> Result<i64, BoxError> {
///         Ok(std::str::from_utf8(&bytes)?.parse()?)
///     }
/// }
/// assert_eq!(Decimal.decode(Decimal.encode(&7)?)?, 7);
/// # Ok::<(), BoxError>(())
/// ```
pub trait Codec: Send + Sync + 'static {
    /// What the bytes mean.
    type Value: Send + Sync + 'static;

    /// The value's bytes.
    ///
    /// # Errors
    ///
    /// Where the value has none.
    fn encode(&self, value: &Self::Value) -> Result<Bytes, BoxError>;

    /// The value of bytes. A record whose value is null, a tombstone, is read as one of no bytes; its
    /// [`ConsumerRecord`](crate::ConsumerRecord) tells the two apart.
    ///
    /// # Errors
    ///
    /// Where the bytes are not a value's. Such a record is not tried again, but goes at once where
    /// records go whose attempts are used up ([`Failures`](crate::Failures)).
    fn decode(&self, bytes: Bytes) -> Result<Self::Value, BoxError>;
}

impl<C: Codec + ?Sized> Codec for std::sync::Arc<C> {
    type Value = C::Value;

    fn encode(&self, value: &Self::Value) -> Result<Bytes, BoxError> {
        (**self).encode(value)
    }

    fn decode(&self, bytes: Bytes) -> Result<Self::Value, BoxError> {
        (**self).decode(bytes)
    }
}

/// Leaves values as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Value = Bytes;

    fn encode(&self, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(value.clone())
    }

    fn decode(&self, bytes: Bytes) -> Result<Bytes, BoxError> {
        Ok(bytes)
    }
}

/// Values as JSON, by serde.
///
/// ```
/// use rustmq::{Codec, Json};
/// let codec = Json::<Vec<u32>>::new();
/// assert_eq!(codec.encode(&vec![1, 2])?, "[1,2]");
/// assert!(codec.decode("[1,".into()).is_err());
/// # Ok::<(), rustmq::BoxError>(())
/// ```
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    /// The codec of a type.
    pub fn new() -> Self {
        Json(PhantomData)
    }
}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Json::new()
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Json::new()
    }
}

impl<T> Codec for Json<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    type Value = T;

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode(&self, bytes: Bytes) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// Values as Protocol Buffers, by prost; feature `protobuf`.
#[cfg(feature = "protobuf")]
pub struct Protobuf<T>(PhantomData<fn() -> T>);

#[cfg(feature = "protobuf")]
impl<T> Protobuf<T> {
    /// The codec of a message type.
    pub fn new() -> Self {
        Protobuf(PhantomData)
    }
}

#[cfg(feature = "protobuf")]
impl<T> Default for Protobuf<T> {
    fn default() -> Self {
        Protobuf::new()
    }
}

#[cfg(feature = "protobuf")]
impl<T: prost::Message + Default + 'static> Codec for Protobuf<T> {
    type Value = T;

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(value.encode_to_vec().into())
    }

    fn decode(&self, bytes: Bytes) -> Result<T, BoxError> {
        Ok(T::decode(bytes)?)
    }
}

/// Says that a value is not what the codec reads. It is never retried.
#[derive(Debug)]
pub struct DecodeError(pub(crate) BoxError);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode the value: {}", self.0)
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

impl From<&DecodeError> for Error {
    fn from(err: &DecodeError) -> Error {
        Error::Decode(err.0.to_string())
    }
}

#[cfg(all(test, feature = "protobuf"))]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Quake {
        #[prost(string, tag = "1")]
        place: String,
        #[prost(double, tag = "2")]
        magnitude: f64,
    }

    #[test]
    fn a_message_comes_back_and_noise_is_an_error() {
        let codec = Protobuf::<Quake>::new();
        let quake = Quake { place: "Valdivia".to_owned(), magnitude: 9.5 };
        assert_eq!(codec.decode(codec.encode(&quake).unwrap()).unwrap(), quake);
        assert!(codec.decode(Bytes::from_static(b"\xff\xff")).is_err());
    }
}
