import { keepPreviousData, type QueryKey, useInfiniteQuery } from "@tanstack/react-query";

import { send } from "./client";
import type { Listing } from "./documents";

export interface Pages<T> {
  /** Of all pages that were read so far; undefined until the first is there. */
  rows: T[] | undefined;
  error: Error | null;
  isLoading: boolean;
  isLoadingMore: boolean;
  hasMore: boolean;
  loadMore: () => void;
  retry: () => void;
}

type Query = Record<string, string | number | boolean | null | undefined>;

/** A list of the gateway, page by page: `usePages<Job>([...keys.jobs, "list", filter], "/v1/jobs", filter)`. */
export function usePages<T>(queryKey: QueryKey, path: string, query: Query = {}, limit = 50): Pages<T> {
  const pages = useInfiniteQuery({
    queryKey,
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) => send<Listing<T>>("GET", path, { query: { ...query, limit, after: pageParam }, signal }),
    getNextPageParam: (last) => (last.has_more ? last.next : null),
    placeholderData: keepPreviousData,
  });
  return {
    rows: pages.data?.pages.flatMap((page) => page.data),
    error: pages.error,
    isLoading: pages.isPending,
    isLoadingMore: pages.isFetchingNextPage,
    hasMore: pages.hasNextPage,
    loadMore: () => void pages.fetchNextPage(),
    retry: () => void pages.refetch(),
  };
}
