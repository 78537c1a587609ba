//! Windows and meters by themselves.

use super::*;
use crate::rules::volume::Volume;

const SECOND: Duration = Duration::from_secs(1);

fn count(rows: u64, bytes: u64) -> Count {
    Count { rows, bytes }
}

fn meter(rows: u64, window: Option<(&Arc<Window>, Duration)>) -> Meter {
    let volume = Volume { rows: Some(rows), bytes: None, window: window.as_ref().map(|(_, length)| *length) };
    let limit = Arc::new(Limit { rule: RuleId::new("r"), volume });
    let window = window.map(|(window, _)| Arc::clone(window));
    let measured = Measured { limit, window, is_lifted: false, reserved: Count::default() };
    Meter { limits: SmallVec::from_iter([measured]), passed: Count::default() }
}

#[test]
fn an_answer_passes_up_to_its_limit() {
    let mut meter = meter(10, None);
    assert_eq!(meter.reserve(count(7, 70), SECOND), count(7, 70));
    meter.settle(count(7, 70), SECOND);
    assert_eq!(meter.reserve(count(7, 70), SECOND).rows, 3);
    meter.settle(count(3, 30), SECOND);
    assert_eq!(meter.crossed_by(count(0, 1 << 40), SECOND).len(), 0);
    assert_eq!(meter.crossed_by(count(1, 1), SECOND).len(), 1);
    meter.lift(&[RuleId::new("r")], SECOND);
    assert_eq!(meter.reserve(count(7, 70), SECOND), count(7, 70));
    assert!(meter.crossed_by(count(1, 1), SECOND).is_empty());
}

#[test]
fn sessions_share_a_window_and_what_one_reserved_is_not_the_others() {
    let hour = Duration::from_secs(3600);
    let window = Arc::new(Window::new(hour, SECOND));
    let (mut one, mut other) = (meter(10, Some((&window, hour))), meter(10, Some((&window, hour))));
    assert_eq!(one.reserve(count(8, 8), SECOND).rows, 8);
    assert_eq!(other.reserve(count(8, 8), SECOND).rows, 2);
    other.settle(count(2, 2), SECOND);
    one.settle(count(1, 1), SECOND);
    assert_eq!(other.reserve(count(8, 8), SECOND).rows, 7);
    // A session that ends in between gives back what it had reserved.
    drop(other);
    assert_eq!(one.reserve(count(8, 8), SECOND).rows, 7);
    one.settle(count(7, 7), SECOND);
    assert_eq!(one.crossed_by(count(1, 0), SECOND).len(), 1);
    one.lift(&[RuleId::new("r")], SECOND);
    assert_eq!(meter(10, Some((&window, hour))).reserve(count(99, 0), SECOND).rows, 10);
}

#[test]
fn a_window_forgets_what_is_older_than_it() {
    let hour = Duration::from_secs(3600);
    let minutes = |count: u32| SECOND * 60 * count;
    let window = Window::new(hour, minutes(0));
    window.settle(Count::default(), count(5, 0), minutes(0));
    window.settle(Count::default(), count(5, 0), minutes(30));
    assert_eq!(window.left(count(10, 0), minutes(59)).rows, 0);
    assert_eq!(window.left(count(10, 0), minutes(61)).rows, 5);
    assert_eq!(window.left(count(10, 0), minutes(91)).rows, 10);
    // Back and far ahead.
    assert_eq!(window.left(count(10, 0), minutes(0)).rows, 10);
    window.settle(Count::default(), count(5, 0), minutes(100_000));
    assert_eq!(window.left(count(10, 0), minutes(100_000)).rows, 5);
}

#[test]
fn what_people_approved_before_it_ran_is_counted_and_not_stopped() {
    let hour = Duration::from_secs(3600);
    let window = Arc::new(Window::new(hour, SECOND));
    let mut approved = meter(10, Some((&window, hour)));
    approved.lift_all();
    assert_eq!(approved.reserve(count(100, 100), SECOND), count(100, 100));
    approved.settle(count(100, 100), SECOND);
    assert_eq!(meter(10, Some((&window, hour))).crossed_by(count(1, 1), SECOND).len(), 1);
}

#[test]
fn a_cursor_goes_on_where_it_was() {
    let mut first = meter(10, None);
    first.settle(count(8, 80), SECOND);
    let mut second = meter(10, None);
    second.resume(&[first.suspend()]);
    assert_eq!(second.reserve(count(9, 9), SECOND).rows, 2);
    second.lift(&[RuleId::new("r")], SECOND);
    let mut third = meter(10, None);
    third.resume(&[second.suspend()]);
    assert!(third.crossed_by(count(100, 100), SECOND).is_empty());
}
