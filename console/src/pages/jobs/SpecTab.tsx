import { CodeBlock } from "../../components/CodeBlock";
import { Section } from "../../components/Page";
import { jobFile } from "../train/draft";
import { draftOf } from "../train/fromSpec";
import { yaml } from "../train/yaml";
import type { Job } from "./documents";
import { useJobsText } from "./text";

/** The job file that it was made of, to keep or to send again. */
export function SpecTab({ job }: { job: Job }) {
  const t = useJobsText();
  return (
    <Section title={t("tab.spec")}>
      <p className="sk-jobs-lead">{t("spec.lead")}</p>
      <CodeBlock code={yaml(jobFile(draftOf(job.spec)))} label="job.yaml" />
      <p className="sk-jobs-lead sk-jobs-after">{t("spec.command")}</p>
      <CodeBlock code={`sskai jobs show ${job.id}\nsskai jobs timeline ${job.id}\nsskai jobs logs ${job.id} --follow`} label={t("spec.commands")} />
    </Section>
  );
}
