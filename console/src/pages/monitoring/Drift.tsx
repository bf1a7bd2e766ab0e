import { Select } from "antd";
import { useState } from "react";

import { usePreferences } from "../../app/preferences";
import { Facts } from "../../components/Facts";
import { TimeAgo } from "../../components/Figures";
import { number, percent } from "../../i18n/figures";
import type { DriftAlarm, DriftTest, DriftVersion } from "./documents";
import { signalWords } from "./index";
import { useMonitoringText } from "./text";

const FIRST_TESTS = 8;

/** The newest version's tests, nearest to their alarm first, and what was told. */
export function Drift({ versions }: { versions: DriftVersion[] }) {
  const t = useMonitoringText();
  const { locale } = usePreferences();
  const [chosen, setChosen] = useState(0);
  const [all, setAll] = useState(false);
  const version = versions[chosen] ?? versions[0];
  if (version === undefined) return <p className="sk-muted">{t("drift.noSamples")}</p>;
  const tests = all ? version.tests : version.tests.slice(0, FIRST_TESTS);
  return (
    <div className="sk-stack">
      {versions.length > 1 && (
        <Select
          aria-label={t("drift.version")}
          value={chosen}
          onChange={setChosen}
          options={versions.map((one, index) => ({ value: index, label: t("drift.ofVersion", { version: one.version }) }))}
        />
      )}
      <Facts
        facts={[
          { label: t("drift.samples"), value: number(version.samples, locale, 7) },
          { label: t("drift.window"), value: t(version.healthy_window.ready ? "drift.full" : "drift.filling", { count: version.healthy_window.samples }) },
          { label: t("drift.alpha"), value: percent(version.alpha, locale), detail: t("drift.alphaDetail") },
          { label: t("drift.updated"), value: <TimeAgo at={version.updated_at} /> },
        ]}
      />
      {version.alarms.length > 0 && <Alarms alarms={version.alarms} />}
      <div className="sk-monitoring-tests">
        {tests.map((test) => (
          <Test key={`${test.signal} ${test.reference} ${test.member}`} test={test} />
        ))}
      </div>
      {version.tests.length > FIRST_TESTS && (
        <button type="button" className="sk-monitoring-more" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? t("drift.fewer") : t("drift.all", { count: version.tests.length })}
        </button>
      )}
      <p className="sk-hint">{t("drift.howTo")}</p>
    </div>
  );
}

function Alarms({ alarms }: { alarms: DriftAlarm[] }) {
  const t = useMonitoringText();
  return (
    <ul className="sk-monitoring-alarms" aria-label={t("drift.alarms")}>
      {alarms.slice(0, 5).map((alarm) => (
        <li key={`${alarm.signal} ${alarm.detected_at} ${alarm.statistic}`}>
          <strong>{signalWords(alarm.signal, t)}</strong>
          {alarm.detected_at && <TimeAgo at={alarm.detected_at} />}
          <p>{alarm.explanation}</p>
        </li>
      ))}
    </ul>
  );
}

/** How near a stream is to its alarm, on a scale on which each step to the right is ten times the evidence; and its means. */
function Test({ test }: { test: DriftTest }) {
  const t = useMonitoringText();
  const { locale } = usePreferences();
  const alarmed = test.statistic >= test.threshold;
  const share = Math.min(1, Math.max(0, Math.log10(Math.max(1, test.statistic)) / Math.log10(test.threshold)));
  const against = t(test.reference === "training-data" ? "drift.training" : "drift.healthy");
  return (
    <div className="sk-monitoring-test" data-alarmed={alarmed}>
      <div className="sk-monitoring-test-name">
        <strong>{signalWords(test.signal, t)}</strong>
        {test.member !== "" && <span>“{test.member}”</span>}
        <small>{t("drift.against", { reference: against })}</small>
      </div>
      <div
        className="sk-monitoring-evidence"
        role="img"
        aria-label={t("drift.evidence", { statistic: number(test.statistic, locale, 3), threshold: number(test.threshold, locale, 3) })}
      >
        <span style={{ width: `${100 * share}%` }} />
        <small>
          {number(test.statistic, locale, 3)} / {number(test.threshold, locale, 3)}
        </small>
      </div>
      <Means test={test} against={against} />
    </div>
  );
}

/** Two dots on one line: then, and now. */
function Means({ test, against }: { test: DriftTest; against: string }) {
  const t = useMonitoringText();
  const { locale } = usePreferences();
  const { reference_mean: then, recent_mean: now } = test;
  if (then === null || now === null) return <span className="sk-muted">–</span>;
  const isShare = test.unit.includes("share") || test.unit.includes("0 to 1");
  const most = isShare ? Math.max(1, then, now) : Math.max(then, now, 1e-9) * 1.25;
  const place = (value: number) => 4 + (172 * Math.max(0, value)) / most;
  const told = (value: number) => (test.unit.startsWith("share") ? percent(value, locale) : number(value, locale, 3));
  return (
    <div className="sk-monitoring-means">
      <svg viewBox="0 0 180 14" preserveAspectRatio="none" role="img" aria-label={t("drift.means", { then: told(then), now: told(now), reference: against, unit: test.unit })}>
        <path d="M4 7h172" className="sk-monitoring-axis" />
        <path d={`M${place(then)} 7H${place(now)}`} className="sk-monitoring-move" />
        <circle cx={place(then)} cy="7" r="4" className="sk-monitoring-then" />
        <circle cx={place(now)} cy="7" r="4.5" className="sk-monitoring-now" />
      </svg>
      <small>
        {told(then)} → {told(now)} {test.unit.startsWith("share") ? "" : test.unit}
      </small>
    </div>
  );
}
