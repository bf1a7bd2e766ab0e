import { Section } from "../../components/Page";
import { useWizard } from "./context";
import { Card, Check, ChoiceField, Field, Folded, NumberField, Segments, TextField } from "./fields";
import { ACCELERATORS, applies, type ChoiceName, EXPORTS, hasAdapter, METHODS, type NumberName, RETRY_EVENTS } from "./settings";
import { useTrainText } from "./text";

const USUAL: NumberName[] = ["n_epochs", "learning_rate", "batch_size", "sequence_length", "dpo_beta"];
const SELDOM: NumberName[] = ["max_steps", "seed", "eval_fraction"];
const SWITCHES: ChoiceName[] = ["gradient_checkpointing", "packing", "horizontal_flip"];

/** How it learns. Everything has a default; what is seldom changed is folded away. */
export function MethodStep() {
  const t = useTrainText();
  const { draft, change, problems } = useWizard();
  const isCode = draft.origin === "code";
  const wanted = (name: NumberName | ChoiceName) => applies(name, draft.method, draft.format) && !(isCode && name === "eval_fraction");
  const seldom = SELDOM.filter(wanted);
  const switches = SWITCHES.filter(wanted);
  return (
    <>
      <Section title={t("step.method")}>
        {isCode ? (
          <p className="sk-train-lead">{t("method.code")}</p>
        ) : (
          <div role="radiogroup" aria-label={t("step.method")} className="sk-train-cards sk-train-cards-two">
            {METHODS.map((method) => (
              <Card
                key={method}
                name="method"
                checked={draft.method === method}
                onChoose={() => change({ method })}
                title={t(`method.${method}`)}
                detail={t(`method.${method}.detail`)}
              />
            ))}
          </div>
        )}
        {problems["model.method"] !== undefined && (
          <p className="sk-error-line" role="alert">
            {problems["model.method"]}
          </p>
        )}
        {draft.format === "preference" && <p className="sk-notice sk-train-after">{t("method.dpo")}</p>}
        {draft.format?.includes("classification") && <p className="sk-notice sk-train-after">{t("method.classifier")}</p>}
        {hasAdapter(draft.method) && !isCode && (
          <div className="sk-train-fields sk-train-after">
            <NumberField name="rank" />
            <Folded title={t("method.adapter")} isOpen={draft.dora || draft.rslora || Boolean(draft.targetModules || draft.numbers.alpha)}>
              <NumberField name="alpha" />
              <TextField name="targetModules" field="model.target_modules" placeholder={t("method.allLinear")} />
              <Check label="DoRA" hint={t("hint.dora")} checked={draft.dora} onChange={(dora) => change({ dora })} />
              <Check label="rsLoRA" hint={t("hint.rslora")} checked={draft.rslora} onChange={(rslora) => change({ rslora })} />
            </Folded>
          </div>
        )}
      </Section>
      <Section title={t("hyper.title")}>
        <p className="sk-train-lead">{t("hyper.lead")}</p>
        <div className="sk-train-fields">
          {USUAL.filter(wanted).map((name) => (
            <NumberField key={name} name={name} />
          ))}
          <Folded title={t("hyper.more")} isOpen={[...seldom, ...switches].some((name) => isSaid(draft, name))}>
            {seldom.map((name) => (
              <NumberField key={name} name={name} />
            ))}
            {switches.map((name) => (
              <ChoiceField key={name} name={name} />
            ))}
          </Folded>
        </div>
      </Section>
      <Section title={t("advanced.title")}>
        <p className="sk-train-lead">{t("advanced.lead")}</p>
        <Resources />
        <Retry />
        <Outcome />
      </Section>
    </>
  );
}

function isSaid(draft: ReturnType<typeof useWizard>["draft"], name: string): boolean {
  const { numbers, choices } = draft;
  const choice = choices[name as ChoiceName];
  return Boolean(numbers[name as NumberName]) || (choice !== undefined && choice !== "auto");
}

function Resources() {
  const t = useTrainText();
  const { draft, change } = useWizard();
  const { accelerators, cpus, memory, nodes, regions, instanceTypes } = draft;
  const [kind = "", count = ""] = accelerators.split(":");
  return (
    <Folded title={t("advanced.resources")} isOpen={[accelerators, cpus, memory, nodes, regions, instanceTypes].some(Boolean)}>
      <Field label={t("field.accelerators")} hint={t("hint.accelerators")} field="resources.accelerators">
        {(props) => (
          <span className="sk-train-pair">
            <select
              {...props}
              className="sk-input"
              value={kind}
              onChange={(event) => change({ accelerators: event.target.value && count ? `${event.target.value}:${count}` : event.target.value })}
            >
              <option value="">{t("auto")}</option>
              <option value="none">{t("accelerators.none")}</option>
              {ACCELERATORS.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
            {kind !== "" && kind !== "none" && (
              <input
                className="sk-input"
                aria-label={t("accelerators.count")}
                placeholder="1"
                value={count}
                onChange={(event) => change({ accelerators: event.target.value ? `${kind}:${event.target.value}` : kind })}
              />
            )}
          </span>
        )}
      </Field>
      <TextField name="cpus" field="resources.cpus" />
      <TextField name="memory" field="resources.memory" />
      <TextField name="nodes" field="resources.nodes" />
      <TextField name="regions" field="resources.regions" placeholder={t("any")} />
      <TextField name="instanceTypes" field="resources.instance_types" placeholder={t("any")} />
    </Folded>
  );
}

function Retry() {
  const t = useTrainText();
  const { draft, change, problems } = useWizard();
  const { retryOn, retryDuration, checkpoints, numbers } = draft;
  const isChanged = retryOn.length < RETRY_EVENTS.length || retryDuration !== "" || checkpoints !== "auto" || Boolean(numbers.max_restarts ?? numbers.checkpoint_keep);
  return (
    <Folded title={t("advanced.retry")} isOpen={isChanged}>
      <Segments
        label={t("field.checkpoints")}
        hint={t("hint.checkpoints")}
        field="checkpoint.interval"
        options={(["auto", "steps", "never"] as const).map((value) => ({ value, label: t(`checkpoints.${value}`) }))}
        value={checkpoints}
        onChange={(value) => change({ checkpoints: value })}
      />
      {checkpoints === "steps" && <NumberField name="checkpoint_interval" />}
      <NumberField name="checkpoint_keep" />
      <fieldset className="sk-train-field" data-field="retry.on_events">
        <legend>{t("field.retryOn")}</legend>
        {RETRY_EVENTS.map((event) => (
          <Check
            key={event}
            label={t(`retry.${event}`)}
            checked={retryOn.includes(event)}
            onChange={(checked) => change({ retryOn: RETRY_EVENTS.filter((one) => (one === event ? checked : retryOn.includes(one))) })}
          />
        ))}
        {problems["retry.on_events"] !== undefined && <p className="sk-error-line">{problems["retry.on_events"]}</p>}
      </fieldset>
      <TextField name="retryDuration" field="retry.duration" placeholder={t("unlimited")} />
      {retryOn.includes("error") && <NumberField name="max_restarts" />}
    </Folded>
  );
}

function Outcome() {
  const t = useTrainText();
  const { draft, change } = useWizard();
  const { exports, env, secrets, project } = draft;
  return (
    <Folded title={t("advanced.outcome")} isOpen={exports.length > 0 || [env, secrets, project].some(Boolean)}>
      <fieldset className="sk-train-field" data-field="export">
        <legend>{t("field.exports")}</legend>
        {EXPORTS.map((kind) => (
          <Check
            key={kind}
            label={t(`export.${kind}`)}
            checked={exports.includes(kind)}
            onChange={(checked) => change({ exports: EXPORTS.filter((one) => (one === kind ? checked : exports.includes(one))) })}
          />
        ))}
      </fieldset>
      <TextField name="secrets" field="secrets" placeholder="HF_TOKEN" />
      <Field label={t("field.env")} hint={t("hint.env")} field="env">
        {(props) => (
          <textarea {...props} className="sk-input sk-train-lines" rows={3} spellCheck={false} placeholder="NAME=VALUE" value={env} onChange={(event) => change({ env: event.target.value })} />
        )}
      </Field>
      <TextField name="project" field="project" placeholder={t("none")} />
    </Folded>
  );
}
