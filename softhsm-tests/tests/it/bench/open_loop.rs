//! Calls that begin at a rate, and the picture of them.

use super::{Setting, list, measured, number};
use portcullis_softhsm_tests::temporary_directory;
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn every_arrival_is_accounted_for_and_drawn() {
    let setting = Setting::new();
    let directory = temporary_directory();
    let picture = directory.path().join("latency.svg");
    let mut command = setting.over_both(
        "p256 aes-gcm-1k --callers 2 --time 400ms --warm-up 100ms --repeats 1 --rate 20 --rate 60 --no-echo --mode unary \
         --mode pipelined",
    );
    let report = measured(command.arg("--plot").arg(&picture));
    let curves = list(&report["open_loop"]);
    assert_eq!(curves.len(), 2 * 2 * 2, "operations, transports, modes");
    for curve in curves {
        let points = list(&curve["points"]);
        let arrivals: Vec<f64> = points
            .iter()
            .map(|point| number(&point["arrivals_per_second"]))
            .collect();
        assert_eq!(arrivals, [20.0, 60.0]);
        for (point, arrivals) in points.iter().zip([8.0, 24.0]) {
            let run = &point["runs"][0];
            let accounted = ["operations", "failed", "unanswered"].map(|what| number(&run[what]));
            let accounted: f64 = accounted.iter().sum();
            assert!((accounted - arrivals).abs() < 0.5, "{arrivals} arrivals: {run}");
            assert!(number(&run["seconds"]) >= 0.4, "{run}");
        }
    }

    let text = fs::read_to_string(&picture).expect("the picture");
    let document = roxmltree::Document::parse(&text).expect("well-formed XML");
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    let size: Vec<f64> = ["width", "height"]
        .map(|name| {
            root.attribute(name)
                .and_then(|value| value.parse().ok())
                .expect("a size")
        })
        .into();
    let lines: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "polyline")))
        .collect();
    assert_eq!(lines.len(), 8 * 2, "p50 and p99 of each curve");
    for line in lines {
        let corners: Vec<_> = line.attribute("points").expect("its points").split(' ').collect();
        assert_eq!(corners.len(), 2);
        for corner in corners {
            let (x, y) = corner.split_once(',').expect("x and y");
            let [x, y] = [x, y].map(|text| text.parse::<f64>().expect("a number"));
            assert!((0.0..=size[0]).contains(&x) && (0.0..=size[1]).contains(&y), "{corner}");
        }
    }
}
