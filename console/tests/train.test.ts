import { describe, expect, it } from "vitest";

import { EMPTY, jobFile, missingBefore, stepOf, withDataset, withModel } from "../src/pages/train/draft";
import { again, draftOf, type JobSpec } from "../src/pages/train/fromSpec";
import { frontOf, pointsOf, rejectedBy, savingOf, scaleOf } from "../src/pages/train/planned";
import type { Candidate, Plan, Rejection } from "../src/pages/train/documents";
import { misfit, NUMBERS } from "../src/pages/train/settings";
import { command, yaml } from "../src/pages/train/yaml";

const chosen = withModel(withDataset(EMPTY, { name: "support", version: 2, format: "messages" }), "smollm2-135m-instruct", "builtin");

describe("a draft", () => {
  it("says only what was chosen, so that the rest stays auto", () => {
    expect(jobFile(chosen)).toEqual({
      kind: "finetune",
      name: "support",
      model: { base: "smollm2-135m-instruct", method: "lora" },
      dataset: { uri: "dataset://support/2" },
      objective: "cheapest",
    });
  });

  it("of a model as code has no dataset and a name of its own", () => {
    const draft = withModel(EMPTY, "digits-code@1", "code");
    expect(jobFile(draft)).toEqual({
      kind: "train",
      name: "digits-code-trained",
      model: { artifact: "model://digits-code/1", method: "scratch" },
      objective: "cheapest",
    });
    expect(missingBefore(draft, "plan")).toBeNull();
    expect(missingBefore(EMPTY, "plan")).toBe("data");
  });

  it("drops with another format what that does not know", () => {
    const preferred = { ...withDataset(EMPTY, { name: "pairs", version: 1, format: "preference" }), numbers: { dpo_beta: "0.2" } };
    expect(withDataset(preferred, { name: "support", version: 1, format: "messages" }).numbers).toEqual({});
  });

  it("knows where each field is asked for", () => {
    expect(["dataset.uri", "model.base", "model.rank", "hyperparameters.seed", "deadline", "name"].map(stepOf)).toEqual([
      "data", "model", "method", "method", "goal", "model",
    ]);
  });

  it("finds figures out of their bounds", () => {
    expect(misfit("", NUMBERS.rank)).toBeNull();
    expect(misfit("x", NUMBERS.rank)).toBe("number");
    expect(misfit("1.5", NUMBERS.rank)).toBe("whole");
    expect(misfit("0", NUMBERS.learning_rate)).toBe("low");
    expect(misfit("2", NUMBERS.learning_rate)).toBe("high");
    expect(misfit("1e-4", NUMBERS.learning_rate)).toBeNull();
  });
});

const SPEC: JobSpec = {
  kind: "finetune",
  name: "bot",
  model: { model_id: "m", uri: "builtin://m", code_uri: "", method: "lora", rank: 16, alpha: 32, target_modules: [], dora: true, rslora: false },
  dataset: { name: "support", version: 1, format: "messages", eval_fraction: 0.05, rows: 10 },
  hyperparameters: { n_epochs: 3, batch_size: null, packing: true },
  resources: { accelerators: "L4:1", cpus: "", memory: "", nodes: "1..8", regions: [], instance_types: [], max_price_usd_per_hour: null },
  spot_policy: "auto",
  budget_usd: 5,
  deadline: "2026-11-30T06:00:00Z",
  retry: { max_restarts_on_errors: 3, duration_seconds: 0, on_events: ["error", "interruption", "no-capacity"] },
  checkpoint: { interval_steps: 50, keep: 3, disabled: false },
  env: { A: "b=c" },
  secrets: ["HF_TOKEN"],
  objective: "fastest",
  priority: "high",
  exports: ["gguf"],
  project: "",
};

describe("a stored job", () => {
  it("becomes the job file that it was made of", () => {
    expect(jobFile(draftOf(SPEC))).toEqual({
      kind: "finetune",
      name: "bot",
      model: { base: "m", method: "lora", rank: 16, dora: true },
      dataset: { uri: "dataset://support/1" },
      hyperparameters: { n_epochs: 3, packing: true },
      resources: { accelerators: "L4:1" },
      objective: "fastest",
      deadline: "2026-11-30T06:00:00.000Z",
      budget: { total_usd: 5 },
      checkpoint: { interval: 50 },
      export: ["gguf"],
      env: { A: "b=c" },
      secrets: ["HF_TOKEN"],
      priority: "high",
    });
  });

  it("goes again with as much time as it had", () => {
    expect(again(SPEC, "2026-11-30T00:00:00Z")).toMatchObject({ deadlineIs: "within", deadline: "6h" });
  });
});

describe("as text", () => {
  it("quotes what YAML would read as something else", () => {
    expect(yaml({ name: "bot", deadline: "6h", on: { a: true, words: ["x", "no", "L4:1"] } })).toBe(
      'name: bot\ndeadline: "6h"\non:\n  a: true\n  words: [x, "no", L4:1]\n',
    );
  });

  it("is a command where its flags say everything", () => {
    const file = jobFile({ ...chosen, numbers: { n_epochs: "3", budget: "5" } });
    expect(command(file)?.replaceAll(" \\\n ", "")).toBe(
      "sskai train --data support@2 --base smollm2-135m-instruct --name support --method lora --epochs 3 --budget 5 --objective cheapest",
    );
    expect(command(jobFile({ ...chosen, dora: true }))).toBeNull();
  });
});

function candidate(capacity: string, hours: number, usd: number, front: boolean): Candidate {
  return {
    placement: { capacity_type: capacity } as Candidate["placement"],
    hours: { low: hours, expected: hours, high: hours },
    total_usd: { low: usd, expected: usd, high: usd },
    on_pareto_front: front,
    on_demand_total_usd: 4,
  } as Candidate;
}

describe("a plan", () => {
  const plan = { candidates: [candidate("spot", 2, 1, true), candidate("on-demand", 1, 4, true), candidate("spot", 3, 2, false)] } as Plan;

  it("has its frontier by time", () => {
    expect(frontOf(pointsOf(plan)).map((point) => point.index)).toEqual([1, 0]);
  });

  it("says what spot saves", () => {
    expect(savingOf(candidate("spot", 2, 1, true))).toEqual({ usd: 3, fraction: 0.75, onDemandUsd: 4 });
    expect(savingOf(candidate("on-demand", 2, 1, true))).toBeNull();
  });

  it("counts rejections by reason", () => {
    const rejections = ["memory", "budget", "memory"].map((reason) => ({ reason }) as Rejection);
    expect(rejectedBy(rejections).map(({ reason, count }) => [reason, count])).toEqual([["memory", 2], ["budget", 1]]);
  });

  it("has a scale around its values", () => {
    expect(scaleOf([1, 9])).toEqual([0, 2.5, 5, 7.5, 10]);
    const near = scaleOf([107, 110], true);
    expect(near[0]).toBeGreaterThan(90);
    expect(near[0]).toBeLessThanOrEqual(107);
    expect(near.at(-1)).toBeGreaterThanOrEqual(110);
  });
});
