import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { Link } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { useMay } from "../../api/session";
import { hasEnded, type Job } from "./documents";
import { useJobsText } from "./text";

/** Cancel while it lives; train again when it has ended. */
export function Actions({ job }: { job: Job }) {
  const t = useJobsText();
  const mayWrite = useMay("write");
  const client = useQueryClient();
  const { modal, message } = App.useApp();
  const cancel = useMutation({
    mutationFn: () => send<Job>("POST", `/v1/jobs/${job.id}/cancel`),
    onSuccess: (cancelled) => client.setQueryData(keys.job(job.id), cancelled),
    onError: (error) => void message.error(error instanceof ProblemError ? error.detail || error.title : t("cancel.failed")),
  });
  if (!mayWrite) return null;
  if (hasEnded(job.state)) {
    return (
      <Link to={`/train?from=${job.id}`}>
        <Button tabIndex={-1}>{t("again")}</Button>
      </Link>
    );
  }
  return (
    <Button
      danger
      loading={cancel.isPending}
      disabled={job.state === "cancelling"}
      onClick={() =>
        modal.confirm({
          title: t("cancel.title", { name: job.name }),
          content: t("cancel.detail"),
          okText: t("cancel.ok"),
          cancelText: t("cancel.keep"),
          okButtonProps: { danger: true },
          onOk: () => cancel.mutateAsync().catch(() => undefined),
        })
      }
    >
      {t("cancel")}
    </Button>
  );
}
