import { Button, Table, type TableColumnsType } from "antd";
import type { ReactNode } from "react";

import type { Pages } from "../api/usePages";
import { useCommonText } from "../app/text";
import { ErrorState } from "./ErrorState";
import { Loading } from "./Loading";

interface DataTableProps<T> {
  /** Says what the table holds to who cannot see the page around it. */
  label: string;
  pages: Pages<T>;
  columns: TableColumnsType<T>;
  rowKey: (row: T) => string;
  /** What stands there when there is no row: an EmptyState. */
  empty: ReactNode;
}

/** A list of the gateway: newest first, more on request. On a narrow screen it scrolls sideways by itself. */
export function DataTable<T extends object>({ label, pages, columns, rowKey, empty }: DataTableProps<T>) {
  const t = useCommonText();
  const { rows } = pages;
  if (rows === undefined) return pages.error ? <ErrorState error={pages.error} onRetry={pages.retry} /> : <Loading rows={6} />;
  if (rows.length === 0) return empty;
  return (
    <div className="sk-table" role="region" aria-label={label} ref={reachable}>
      <Table<T>
        columns={columns}
        dataSource={rows}
        rowKey={rowKey}
        pagination={false}
        size="middle"
        scroll={{ x: "max-content" }}
      />
      <div className="sk-table-foot">
        <span>{t("table.rows", { count: rows.length })}</span>
        {pages.error !== null && <Button onClick={pages.retry}>{t("retry")}</Button>}
        {pages.hasMore && (
          <Button loading={pages.isLoadingMore} onClick={pages.loadMore}>
            {t("more")}
          </Button>
        )}
      </div>
    </div>
  );
}

/** What scrolls sideways is reached by the keyboard, also where no cell holds a link; antd has no word for it. */
function reachable(region: HTMLDivElement | null): void {
  region?.querySelector(".ant-table-content")?.setAttribute("tabindex", "0");
}
