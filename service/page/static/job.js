// Follows a job: its events come as they happen, and each renews the part of the page that it concerns.

const status = () => document.getElementById("status");
const tell = (name) => document.body.dispatchEvent(new Event(name));

if (status()?.hasAttribute("data-living")) {
  const { job, newest } = status().dataset;
  const stream = new EventSource(`/v1/jobs/${job}/events?after=${newest}`);
  let due = new Set();
  stream.onmessage = ({ data }) => {
    const { type } = JSON.parse(data).body;
    due.add("told");
    if (type === "step" || type === "state" || type === "finished" || type === "failed") due.add("step");
    // Many come at once when a stream begins.
    if (due.size && !due.timer) due.timer = setTimeout(flush, 250);
  };
  const flush = () => {
    const names = due;
    due = new Set();
    names.forEach(tell);
    if (!status()?.hasAttribute("data-living")) stream.close();
  };
  addEventListener("pagehide", () => stream.close());
}
