//! The only module that reads a clock. Everything below rank 5 takes a [`Timestamp`] as an
//! argument; shells hold a [`Clock`], which tests replace by one they move by hand.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    pub(crate) const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub(crate) const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub(crate) const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment moved forward; saturates at the far end of the type.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time elapsed since `earlier`; zero when `earlier` lies in the future.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2026-11-20T11:25:55.123456Z` (RFC 3339, always UTC, always six digits).
    pub(crate) fn rfc3339(self) -> String {
        if !FAMILIAR.contains(&self.0) {
            return self.format("%Y-%m-%dT%H:%M:%S%.6fZ");
        }
        // Spelled out, as `amz_date`: each record of a matched request holds one.
        let [y1, y2, y3, y4, mo1, mo2, d1, d2, t, h1, h2, mi1, mi2, s1, s2, z] = self.amz_date().0;
        let micros = u32::try_from(self.0.rem_euclid(1_000_000)).unwrap_or(0);
        let digit = |unit: u32| b'0' + (micros / unit % 10) as u8;
        let [f1, f2, f3] = [digit(100_000), digit(10_000), digit(1_000)];
        let [f4, f5, f6] = [digit(100), digit(10), digit(1)];
        let spelled = [
            y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, t, h1, h2, b':', mi1, mi2, b':', s1, s2, b'.', f1, f2, f3,
            f4, f5, f6, z,
        ];
        String::from_utf8(spelled.to_vec()).unwrap_or_default()
    }

    /// `20261120T112555Z`, the `x-amz-date` form of SigV4; the epoch stands for moments outside of years 0 to 9999.
    pub(crate) fn amz_date(self) -> AmzDate {
        // Spelled out: this stands on the way of every request, and reading a format string costs more than the rest.
        let moment = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let at = jiff::tz::Offset::UTC.to_datetime(moment);
        let Ok(year) = u16::try_from(at.year()) else { return Self(0).amz_date() };
        let two = |value: u16| [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8];
        let small = |value: i8| two(u16::from(value.unsigned_abs()));
        let ([y1, y2], [y3, y4]) = (two(year / 100), two(year));
        let ([mo1, mo2], [d1, d2]) = (small(at.month()), small(at.day()));
        let ([h1, h2], [mi1, mi2], [s1, s2]) = (small(at.hour()), small(at.minute()), small(at.second()));
        AmzDate([y1, y2, y3, y4, mo1, mo2, d1, d2, b'T', h1, h2, mi1, mi2, s1, s2, b'Z'])
    }

    /// Reads the `x-amz-date` form, strictly: sixteen characters, a real date, UTC.
    pub(crate) fn parse_amz_date(text: &str) -> Option<Self> {
        let text: &[u8; 16] = text.as_bytes().try_into().ok()?;
        let [y1, y2, y3, y4, mo1, mo2, d1, d2, b'T', h1, h2, mi1, mi2, s1, s2, b'Z'] = *text else { return None };
        let two = |tens: u8, ones: u8| {
            let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
            is_number.then(|| (tens - b'0') as i8 * 10 + (ones - b'0') as i8)
        };
        let year = i16::from(two(y1, y2)?) * 100 + i16::from(two(y3, y4)?);
        let (month, day) = (two(mo1, mo2)?, two(d1, d2)?);
        let (hour, minute, second) = (two(h1, h2)?, two(mi1, mi2)?, two(s1, s2)?);
        let date_time = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        Some(Self(jiff::tz::Offset::UTC.to_timestamp(date_time).ok()?.as_microsecond()))
    }

    /// Reads the preferred form of an HTTP date: `Fri, 20 Nov 2026 11:25:55 GMT`.
    pub(crate) fn parse_http_date(text: &str) -> Option<Self> {
        let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        let is_form = text.len() == 29 && text.ends_with(" GMT");
        is_form.then(|| Self(moment.as_microsecond()))
    }

    /// Reads an RFC 3339 moment.
    pub(crate) fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }

    fn format(self, form: &str) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.strftime(form).to_string(),
            Err(_) => "out-of-range".to_owned(),
        }
    }
}

/// A moment as `20261120T112555Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmzDate([u8; 16]);

impl AmzDate {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// `20261120`
    pub(crate) fn day(&self) -> &str {
        self.as_str().get(..8).unwrap_or_default()
    }
}

impl fmt::Display for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Moments from 1970 up to the last that jiff knows, in microseconds since the epoch.
const FAMILIAR: std::ops::Range<i64> = 0..253_402_207_200_000_000;

/// Microseconds since the epoch, for modules of the same rank, which cannot name the type.
impl From<Timestamp> for i64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.as_micros()
    }
}

/// Reads a duration as the command line takes it: `90s`, `15m`, `2h`, `7d`; not zero.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86400)];
    let (unit, seconds) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    let total = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (total > 0).then(|| Duration::from_secs(total))
}

/// Where the shells get the time from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    /// Set only in tests: what to report instead of the system's.
    manual: Option<Arc<Manual>>,
}

/// A clock that is moved by hand, in microseconds.
#[derive(Debug)]
struct Manual {
    now: AtomicI64,
    passed: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Timestamp {
        match &self.manual {
            Some(manual) => Timestamp(manual.now.load(Ordering::SeqCst)),
            None => Timestamp(jiff::Timestamp::now().as_microsecond()),
        }
    }

    /// Time that passed since some moment in this process's life, whatever is done to the system's clock.
    pub(crate) fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match &self.manual {
            Some(manual) => Timestamp(manual.passed.load(Ordering::SeqCst)).since(Timestamp(0)),
            None => START.elapsed(),
        }
    }

    #[cfg(test)]
    pub(crate) fn manual(start: Timestamp) -> Self {
        Self { manual: Some(Arc::new(Manual { now: AtomicI64::new(start.0), passed: AtomicI64::new(0) })) }
    }

    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        if let Some(manual) = &self.manual {
            manual.passed.fetch_add(micros, Ordering::SeqCst);
        }
        self.jump(micros);
    }

    /// The system's clock is set: no time passes.
    #[cfg(test)]
    pub(crate) fn jump(&self, micros: i64) {
        if let Some(manual) = &self.manual {
            manual.now.fetch_add(micros, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_is_as_jiff_spells_it() {
        for micros in [0, 1, 999_999, 1_800_000_000_123_456, FAMILIAR.end - 1, FAMILIAR.end, -1, i64::MIN, i64::MAX] {
            let timestamp = Timestamp(micros);
            assert_eq!(timestamp.rfc3339(), timestamp.format("%Y-%m-%dT%H:%M:%S%.6fZ"), "{micros}");
        }
    }

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Some(Duration::from_secs(7200)));
        for bad in
            ["", "h", "0s", "-1h", "+1h", "1.5h", "1 h", "1h30m", "1w", "99999999999999999999d", "213503982334602d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn http_date_is_read_in_its_preferred_form_only() {
        let timestamp = Timestamp::parse_amz_date("20261120T112555Z");
        assert_eq!(Timestamp::parse_http_date("Fri, 20 Nov 2026 11:25:55 GMT"), timestamp);
        for bad in ["Fri, 20 Nov 2026 11:25:55 +0000", "Thu, 20 Nov 2026 11:25:55 GMT", "20 Nov 2026 11:25:55 GMT", ""]
        {
            assert_eq!(Timestamp::parse_http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn amz_date_round_trips_and_refuses_other_forms() {
        let timestamp = Timestamp::parse_amz_date("20261120T112555Z").unwrap();
        assert_eq!(timestamp.amz_date().as_str(), "20261120T112555Z");
        assert_eq!(timestamp.amz_date().day(), "20261120");
        assert_eq!(timestamp.rfc3339(), "2026-11-20T11:25:55.000000Z");
        assert_eq!(Timestamp::parse_rfc3339(&timestamp.rfc3339()), Some(timestamp));
        for bad in [
            "20261120T112555",
            "20261320T112555Z",
            "2026-11-20T11:25:55Z",
            "20261120t112555Z",
            "20261120T112555ZZ",
            "2026112 T112555Z",
            "+0261120T112555Z",
            "20261120T112560Z",
        ] {
            assert_eq!(Timestamp::parse_amz_date(bad), None, "{bad}");
        }
    }
}
