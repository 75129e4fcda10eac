//! The figures of a load on paper: text for people, one JSON object for scripts.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::clients::Joining;
use super::pace::Load;
use super::run::{Connecting, Extent, Measured, Outcome, Settings};
use crate::report::line;

/// What is told of the latencies.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// Above this, the generator has hardly a processor's time left to do more with.
const GENERATOR_BUSY: f64 = 0.9;

/// For people.
pub fn text(settings: &Settings, outcome: &Outcome) -> String {
    let (plan, mut out) = (&settings.plan, String::new());
    let load = match settings.load {
        Load::InFlight(messages) => format!("{} messages in flight", grouped(u64::from(messages))),
        Load::Rate(messages) => format!("{} messages a second", grouped(u64::from(messages))),
    };
    line(
        &mut out,
        format_args!(
            "load        connections: {}, rooms: {}, rooms of each connection: {}, publishers: {}; {load}, {} bytes each",
            grouped(plan.members as u64),
            grouped(plan.rooms as u64),
            plan.rooms_each,
            plan.publishers,
            settings.message_bytes
        ),
    );
    if let Some(connecting) = &outcome.connecting {
        write_connecting(&mut out, connecting);
    }
    if let Some(measured) = &outcome.measured {
        write_measured(&mut out, measured);
    }
    if !outcome.latency.is_empty() {
        write_latency(&mut out, "latency", &outcome.latency);
    }
    if !outcome.lateness.is_empty() {
        write_latency(&mut out, "sent late", &outcome.lateness);
    }
    let (total, faults) = (&outcome.total, &outcome.faults);
    line(
        &mut out,
        format_args!(
            "checked     {} deliveries of {} messages: {} lost, {} duplicated, {} out of order",
            grouped(total.deliveries),
            grouped(total.sent),
            grouped(faults.lost),
            grouped(faults.duplicated),
            grouped(faults.out_of_order),
        ),
    );
    if faults.against_room_order > 0 {
        let count = grouped(faults.against_room_order);
        line(&mut out, format_args!("order       {count} deliveries came in another order than to others in the room"));
    }
    if outcome.unfinished > 0 {
        line(&mut out, format_args!("cut off     {} deliveries were still to come", grouped(outcome.unfinished)));
    }
    if total.foreign > 0 {
        line(&mut out, format_args!("foreign     {} messages of somebody else", grouped(total.foreign)));
    }
    if outcome.interrupted {
        line(&mut out, format_args!("interrupted before its end"));
    }
    out
}

fn write_connecting(out: &mut String, connecting: &Connecting) {
    let cpu = connecting.cpu_us().map_or(String::new(), |us| format!("; server {us:.1} µs each"));
    let bytes = match (connecting.memory, connecting.bytes_each()) {
        (None, _) => String::new(),
        (Some(_), None) => ", - bytes each (its memory has not grown)".to_owned(),
        (Some(_), Some(bytes)) => format!(", {bytes:.0} bytes each"),
    };
    let rate = grouped(connecting.per_second().round() as u64);
    line(out, format_args!("connecting  {:.3} s: {rate} connections/s{cpu}{bytes}", connecting.took.as_secs_f64()));
}

fn write_measured(out: &mut String, measured: &Measured) {
    let each = |count| grouped(measured.per_second(count).round() as u64);
    let tally = &measured.tally;
    line(
        out,
        format_args!(
            "measured    {:.3} s: {} messages/s, {} deliveries/s, {:.1} MB/s",
            measured.took.as_secs_f64(),
            each(tally.sent),
            each(tally.deliveries),
            measured.per_second(tally.bytes) / 1e6,
        ),
    );
    if let (Some(total), Some(server)) = (measured.total_us(), measured.server) {
        let shares = match measured.user_us() {
            Some(user) => format!("user {user:.3}, system {:.3}", total - user),
            None => "user and system: too short to tell".to_owned(),
        };
        let busy = measured.busy(server) * 100.0;
        line(
            out,
            format_args!("server      {total:.3} µs of processor time per delivery ({shares}), {busy:.0} % busy"),
        );
    }
    let own = measured.busy(measured.own);
    let advice = if own > GENERATOR_BUSY { ": perhaps it is what limits the figures above" } else { "" };
    line(out, format_args!("generator   {:.0} % busy{advice}", own * 100.0));
}

fn write_latency(out: &mut String, name: &str, latency: &Histogram<u64>) {
    let quantiles = QUANTILES
        .map(|(name, quantile)| format!("{} {}", name.replace('_', "."), time(latency.value_at_quantile(quantile))));
    line(out, format_args!("{name:<11} {}, max {}", quantiles.join(", "), time(latency.max())));
}

/// ns in a unit that leaves few digits.
fn time(ns: u64) -> String {
    match ns {
        0..10_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// For scripts: one run with its settings.
pub fn json(settings: &Settings, outcome: &Outcome) -> Value {
    let mut json = outcome_json(outcome);
    json["settings"] = settings_json(settings);
    json
}

/// What was to be done.
pub fn settings_json(settings: &Settings) -> Value {
    let plan = &settings.plan;
    let (in_flight, rate) = match settings.load {
        Load::InFlight(messages) => (Some(messages), None),
        Load::Rate(messages) => (None, Some(messages)),
    };
    let (seconds, messages) = match settings.extent {
        Extent::Time(time) => (Some(time.as_secs_f64()), None),
        Extent::Messages(messages) => (None, Some(messages)),
    };
    json!({
        "connections": plan.members, "rooms": plan.rooms, "rooms_per_connection": plan.rooms_each,
        "join_by_url": settings.joining == Joining::ByUrl,
        "publishers": plan.publishers, "in_flight": in_flight, "rate": rate, "size_bytes": settings.message_bytes,
        "seconds": seconds, "messages": messages, "warm_up_seconds": settings.warm_up.as_secs_f64(),
    })
}

/// What came of it.
pub fn outcome_json(outcome: &Outcome) -> Value {
    let (total, faults) = (&outcome.total, &outcome.faults);
    json!({
        "connecting": outcome.connecting.as_ref().map(connecting_json),
        "measured": outcome.measured.as_ref().map(measured_json),
        "latency_us": latency_json(&outcome.latency),
        "sent_late_us": latency_json(&outcome.lateness),
        "messages": total.sent, "deliveries": total.deliveries, "foreign": total.foreign,
        "lost": faults.lost, "duplicated": faults.duplicated, "out_of_order": faults.out_of_order,
        "against_room_order": faults.against_room_order,
        "unfinished": outcome.unfinished,
        "interrupted": outcome.interrupted, "error": outcome.verdict().map(|error| error.to_string()),
    })
}

/// The members' way in.
pub fn connecting_json(connecting: &Connecting) -> Value {
    json!({
        "seconds": connecting.took.as_secs_f64(), "connections_per_second": connecting.per_second(),
        "server_cpu_us_each": connecting.cpu_us(), "server_memory_bytes_each": connecting.bytes_each(),
    })
}

fn measured_json(measured: &Measured) -> Value {
    let (tally, total, user) = (&measured.tally, measured.total_us(), measured.user_us());
    json!({
        "seconds": measured.took.as_secs_f64(),
        "messages": tally.sent, "messages_per_second": measured.per_second(tally.sent),
        "deliveries": tally.deliveries, "deliveries_per_second": measured.per_second(tally.deliveries),
        "bytes": tally.bytes, "bytes_per_second": measured.per_second(tally.bytes),
        "server_cpu_us_per_delivery": total, "server_cpu_user_us_per_delivery": user,
        "server_cpu_system_us_per_delivery": total.zip(user).map(|(total, user)| total - user),
        "server_busy": measured.server.map(|cpu| measured.busy(cpu)), "generator_busy": measured.busy(measured.own),
    })
}

fn latency_json(latency: &Histogram<u64>) -> Value {
    if latency.is_empty() {
        return Value::Null;
    }
    let us = |ns: u64| Value::from(ns as f64 / 1e3);
    let quantiles = QUANTILES.map(|(name, quantile)| (name.to_owned(), us(latency.value_at_quantile(quantile))));
    quantiles.into_iter().chain([("max".to_owned(), us(latency.max()))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped_and_times_have_a_fitting_unit() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([999_600, 12_340_000, 12_340_000_000].map(time), ["1000 µs", "12.3 ms", "12.3 s"]);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = crate::latency::histogram().unwrap();
        assert_eq!(latency_json(&latency), Value::Null);
        for us in 1..=1_000 {
            latency.saturating_record(us * 1_000);
        }
        let json = latency_json(&latency);
        for (name, us) in [("p50", 500.0), ("p90", 900.0), ("p99", 990.0), ("p99_9", 999.0), ("max", 1_000.0)] {
            let told = json[name].as_f64().unwrap();
            assert!((told - us).abs() <= us / 500.0, "{name}: {told}");
        }
    }
}
