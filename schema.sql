-- The pipeline's tables. Idempotent: applied at every deploy by the database's administrator,
--   psql -v ON_ERROR_STOP=1 -d audio_pipeline -f schema.sql
-- Owned by the pipeline; the RA app's tables (ra_users, ra_assignments, ra_labels, ...) come from its own migrations.
-- Two login roles, created here without a password: set one with ALTER ROLE ... PASSWORD.
--   pipeline   reads and writes the tables below, and has no right on any ra_* table (the RA app owns those)
--   ra_app     SELECTs the tables below, and may create its own in the schema ra_app, nowhere else
-- It runs with an administrator's rights in a database where ra_app has made what it likes. So that nothing of ra_app's is
-- ever called here, names are looked up in pg_catalog only, and everything else is written with its schema.
-- A change must leave the previous release working: add columns with defaults, never rename or drop in the same release.

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pipeline') THEN CREATE ROLE pipeline LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ra_app') THEN CREATE ROLE ra_app LOGIN; END IF;
END
$$;

-- Only an administrator creates in public; the RA app has a schema of its own.
CREATE SCHEMA IF NOT EXISTS ra_app AUTHORIZATION ra_app;
REVOKE CREATE ON SCHEMA public FROM PUBLIC, ra_app, pipeline;

-- Until version 4 the RA app's tables lay in public. All that ra_app owns there moves, whatever it is: afterwards no name of the
-- pipeline's can be taken by it. To move is to write the catalog anew; nothing of what moves is called.
DO $$
DECLARE
    thing record;
BEGIN
    FOR thing IN
        SELECT lies.classid, lies.objid, found.type, found.identity
        FROM pg_depend AS lies
        JOIN pg_shdepend AS owned
            ON owned.classid = lies.classid AND owned.objid = lies.objid AND owned.deptype = 'o'
            AND owned.refclassid = 'pg_authid'::regclass AND owned.refobjid = 'ra_app'::regrole
            AND owned.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        CROSS JOIN LATERAL pg_identify_object(lies.classid, lies.objid, 0) AS found
        WHERE lies.refclassid = 'pg_namespace'::regclass AND lies.refobjid = 'public'::regnamespace
            -- The sequence of a column goes with its table.
            AND NOT (found.type = 'sequence' AND EXISTS (
                SELECT FROM pg_depend AS part
                WHERE part.classid = lies.classid AND part.objid = lies.objid AND part.deptype IN ('a', 'i')
                    AND part.refclassid = 'pg_class'::regclass AND part.refobjsubid > 0))
    LOOP
        -- By its name of now: what stands in that name may have moved since.
        thing.identity := (pg_identify_object(thing.classid, thing.objid, 0)).identity;
        BEGIN
            EXECUTE format('ALTER %s %s SET SCHEMA ra_app', replace(thing.type, 'statistics object', 'statistics'), thing.identity);
            RAISE NOTICE 'moved to the schema ra_app: % %', thing.type, thing.identity;
        EXCEPTION WHEN OTHERS THEN
            RAISE EXCEPTION 'the % % belongs to ra_app and cannot move from the schema public to ra_app: %',
                thing.type, thing.identity, SQLERRM
                USING HINT = 'Look at what it is: the RA app makes tables and indexes only. Drop it, then apply schema.sql again.';
        END;
    END LOOP;
END
$$;

-- Where names without a schema are looked up. The pipeline never meets anything of ra_app's; ra_app meets its own things first.
DO $$
BEGIN
    EXECUTE format('ALTER ROLE pipeline IN DATABASE %I SET search_path = public', current_database());
    EXECUTE format('ALTER ROLE ra_app IN DATABASE %I SET search_path = ra_app, public', current_database());
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

CREATE TABLE IF NOT EXISTS public.schema_version (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- One row per archive.
CREATE TABLE IF NOT EXISTS public.batches (
    batch_id          text PRIMARY KEY,
    s3_key            text,                          -- null: clips that an operator injected without an archive
    original_filename text,                          -- the archive's name on the EC2 host
    transferred_at    timestamptz,
    unpacked_at       timestamptz,
    unpack_host       text,                          -- the host whose scratch holds the clips
    completed_at      timestamptz,
    total             integer NOT NULL DEFAULT 0 CHECK (total >= 0),        -- clips in the archive
    processed         integer NOT NULL DEFAULT 0 CHECK (processed >= 0),    -- at completion: clips with results
    failed            integer NOT NULL DEFAULT 0 CHECK (failed >= 0),       -- at completion: clips given up
    skipped_members   jsonb NOT NULL DEFAULT '[]',   -- [{"name", "reason"}]: members that are no clips
    created_at        timestamptz NOT NULL DEFAULT now()
);

-- Since version 2: which run of unpack is the newest; an older one that wakes up again may record nothing.
ALTER TABLE public.batches ADD COLUMN IF NOT EXISTS unpack_run integer NOT NULL DEFAULT 0;

-- Since version 3: an operator has given the batch up; workers and reconciliation leave it alone.
ALTER TABLE public.batches ADD COLUMN IF NOT EXISTS cancelled_at timestamptz;
ALTER TABLE public.batches ADD COLUMN IF NOT EXISTS unpack_began_at timestamptz;

-- Since version 4: for how many of the clips metadata were found (null: unpacked by an earlier release), and what was
-- wrong with them: [{"of", "reason"}].
ALTER TABLE public.batches ADD COLUMN IF NOT EXISTS metadata_matched integer;
ALTER TABLE public.batches ADD COLUMN IF NOT EXISTS metadata_problems jsonb NOT NULL DEFAULT '[]';

-- One row per clip.
CREATE TABLE IF NOT EXISTS public.audio_files (
    audio_id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    batch_id          text NOT NULL REFERENCES public.batches,
    original_filename text NOT NULL,                 -- the member's path in the archive
    s3_opus_path      text,                          -- processed/{date}/{audio_id}.opus
    status            text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'no_speech', 'failed')),
    error             text,                          -- why it failed, for a person
    duration_s        double precision,              -- of the audio as decoded
    source_format     text,                          -- container and codec of the upload, for example mp3/mp3float
    source_bytes      bigint,
    source_sha256     text,
    platform_metadata jsonb,                         -- the clip's row of metadata.parquet
    processed_at      timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (batch_id, original_filename)
);
CREATE INDEX IF NOT EXISTS audio_files_status_idx ON public.audio_files (status);

-- Since version 3: the pace, and where a clip's time went.
CREATE INDEX IF NOT EXISTS audio_files_processed_at_idx ON public.audio_files (processed_at);
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS transcribe_s double precision;
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS classify_s double precision;

-- Since version 4: what of the upload the clip does not hold, or holds differently; one sentence each.
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS audio_notes jsonb NOT NULL DEFAULT '[]';

-- Since version 7: what a player needs before it has the audio, measured on the samples of the stored clip. All three are
-- null for a clip that an earlier release finished.
-- Largest absolute amplitude in each of up to 600 equal parts of the clip, in order, one byte each: 255 is full scale.
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS peaks bytea;
-- Integrated loudness (ITU-R BS.1770, EBU R 128) in LUFS, of the mono clip played on both sides; null also for silence and
-- for less than 0.4 s.
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS loudness_lufs double precision;
-- The largest sample in dB of full scale, at most 0; null also if all samples are 0.
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS peak_dbfs double precision;

-- Since version 8: when the clip was erased because its author withdrew. Its text, file name, metadata and hashes are gone.
ALTER TABLE public.audio_files ADD COLUMN IF NOT EXISTS erased_at timestamptz;
-- For the search: by a field of the platform's metadata, by the beginning of a file name, and by days of processing.
CREATE INDEX IF NOT EXISTS audio_files_platform_idx ON public.audio_files USING gin (platform_metadata jsonb_path_ops);
CREATE INDEX IF NOT EXISTS audio_files_name_idx ON public.audio_files (original_filename text_pattern_ops);
CREATE INDEX IF NOT EXISTS audio_files_days_idx ON public.audio_files (processed_at, audio_id);

-- What was said. One transcript per clip and speech model.
CREATE TABLE IF NOT EXISTS public.transcripts (
    transcript_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    audio_id             bigint NOT NULL REFERENCES public.audio_files ON DELETE CASCADE,
    model                text NOT NULL,              -- for example large-v3
    text                 text NOT NULL,              -- empty when there was no speech
    language             text,                       -- ISO 639-1; null when there was no speech
    language_probability double precision,
    segments             jsonb NOT NULL DEFAULT '[]',-- [{"start", "end", "text", "avg_logprob", ...}], times in seconds
    speech_s             double precision NOT NULL,  -- seconds of speech that the voice activity detector found
    no_speech            boolean NOT NULL,           -- then there is no verdict
    no_speech_reason     text,
    avg_logprob          double precision,           -- quality: mean over segments, weighted by length
    no_speech_prob       double precision,           -- quality: highest of the segments
    compression_ratio    double precision,           -- quality: highest of the segments
    created_at           timestamptz NOT NULL DEFAULT now(),  -- when it was made last: the row is written again then
    search               tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, text)) STORED,
    UNIQUE (audio_id, model)
);
CREATE INDEX IF NOT EXISTS transcripts_search_idx ON public.transcripts USING gin (search);

-- Since version 6: what the clip holds, by the gate's rule; why it is doubtful or without speech; what the speech model made
-- of each window, also of those that are not part of the text; the translation into English, if it was asked for; the
-- words with times, and where these come from; and why no verdict follows although there is speech.
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS finding text NOT NULL DEFAULT 'speech'
    CHECK (finding IN ('speech', 'doubtful', 'no_speech'));
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS reasons text[] NOT NULL DEFAULT '{}';
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS windows jsonb NOT NULL DEFAULT '[]';
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS translation text;
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS words jsonb;  -- [{"start", "end", "word", "probability"}]
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS words_from text CHECK (words_from IN ('alignment', 'decoder'));
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS not_judged text CHECK (not_judged IN ('language'));
-- For counts and lists of what is doubtful or not judged.
CREATE INDEX IF NOT EXISTS transcripts_doubts_idx ON public.transcripts (audio_id)
    WHERE finding = 'doubtful' OR not_judged IS NOT NULL;
CREATE INDEX IF NOT EXISTS transcripts_doubts_at_idx ON public.transcripts (created_at)
    WHERE finding = 'doubtful' OR not_judged IS NOT NULL;
-- Rows that an earlier release wrote, before or since: it does not write the finding.
UPDATE public.transcripts SET finding = CASE WHEN no_speech THEN 'no_speech' ELSE 'speech' END, reasons = '{}'
WHERE no_speech <> (finding = 'no_speech');

-- Since version 8: the search over what was said, in every language. `search` above stems as English, whatever the language.
-- The configuration that stems words of a language (ISO 639-1); `simple` stems nothing. Constants, so that no search path is
-- asked when it is called.
CREATE OR REPLACE FUNCTION public.search_config(language text) RETURNS regconfig
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE language
    WHEN 'ar' THEN 'arabic'::regconfig WHEN 'ca' THEN 'catalan'::regconfig WHEN 'da' THEN 'danish'::regconfig
    WHEN 'de' THEN 'german'::regconfig WHEN 'el' THEN 'greek'::regconfig WHEN 'en' THEN 'english'::regconfig
    WHEN 'es' THEN 'spanish'::regconfig WHEN 'eu' THEN 'basque'::regconfig WHEN 'fi' THEN 'finnish'::regconfig
    WHEN 'fr' THEN 'french'::regconfig WHEN 'hi' THEN 'hindi'::regconfig WHEN 'hu' THEN 'hungarian'::regconfig
    WHEN 'hy' THEN 'armenian'::regconfig WHEN 'id' THEN 'indonesian'::regconfig WHEN 'it' THEN 'italian'::regconfig
    WHEN 'lt' THEN 'lithuanian'::regconfig WHEN 'ne' THEN 'nepali'::regconfig WHEN 'nl' THEN 'dutch'::regconfig
    WHEN 'nn' THEN 'norwegian'::regconfig WHEN 'no' THEN 'norwegian'::regconfig WHEN 'pt' THEN 'portuguese'::regconfig
    WHEN 'ro' THEN 'romanian'::regconfig WHEN 'ru' THEN 'russian'::regconfig WHEN 'sr' THEN 'serbian'::regconfig
    WHEN 'sv' THEN 'swedish'::regconfig WHEN 'ta' THEN 'tamil'::regconfig WHEN 'tr' THEN 'turkish'::regconfig
    WHEN 'yi' THEN 'yiddish'::regconfig
    ELSE 'simple'::regconfig END;

-- The text with each character of a script that writes no blanks between words (Thai, Lao, Burmese, Khmer, Chinese, Japanese)
-- set apart by the control character 31, so that each counts as a word. Korean too: its words carry endings, and no
-- configuration stems them.
CREATE OR REPLACE FUNCTION public.search_words(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(said, '([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u2E80-\u2FDF\u3005-\u3007\u3040-\u318F\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uA960-\uA97F\uAC00-\uD7FF\uF900-\uFAFF\uFF66-\uFFDC\U00020000-\U0003FFFF])',
    E'\x1F\\1\x1F', 'g');

-- What of a transcript can be found: its words stemmed by its language, its words as they are, and the words of the
-- translation stemmed as English; of the first 100,000 characters, so that no vector is too long to be stored. The sign
-- between the parts takes a place, so that no phrase goes across.
CREATE OR REPLACE FUNCTION public.search_vector(language text, said text, translation text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_tsvector('simple', public.search_words(left(said, 100000)))
    || CASE WHEN public.search_config(language) = 'simple'::regconfig THEN ''::tsvector
       ELSE '''~'':1'::tsvector || to_tsvector(public.search_config(language), left(said, 100000)) END
    || CASE WHEN translation IS NULL THEN ''::tsvector
       ELSE '''~'':1'::tsvector || to_tsvector('english', left(translation, 100000)) END;

-- A stored column: a phrase is looked up in the vector itself, which an index on an expression would compute anew for each row.
ALTER TABLE public.transcripts ADD COLUMN IF NOT EXISTS words_found tsvector
    GENERATED ALWAYS AS (public.search_vector(language, text, translation)) STORED;
-- So that Postgres knows how rare a word is: by default it knows the thousand commonest ones only.
ALTER TABLE public.transcripts ALTER COLUMN words_found SET STATISTICS 300;
CREATE INDEX IF NOT EXISTS transcripts_words_found_idx ON public.transcripts USING gin (words_found);
-- Clips of a language, the newest first.
CREATE INDEX IF NOT EXISTS transcripts_language_idx ON public.transcripts (language, audio_id);

-- One verdict per clip, policy, policy version and model; everything needed to trace it stands in the row.
CREATE TABLE IF NOT EXISTS public.classifications (
    classification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    audio_id          bigint NOT NULL REFERENCES public.audio_files ON DELETE CASCADE,
    transcript_id     bigint NOT NULL REFERENCES public.transcripts ON DELETE CASCADE,
    policy            text NOT NULL,
    policy_version    text NOT NULL,
    policy_sha256     text NOT NULL,                 -- of the policy text the model read
    model             text NOT NULL,
    prompt_version    text NOT NULL,
    violates          boolean NOT NULL,              -- score >= threshold
    score             double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    threshold         double precision NOT NULL,
    mass              double precision NOT NULL,     -- p("0") + p("1") at the answer; about 1 when the prompt is right
    truncated         boolean NOT NULL,              -- the middle of the transcript did not fit
    created_at        timestamptz NOT NULL DEFAULT now(),  -- when it was judged last: the row is written again then
    UNIQUE (audio_id, policy, policy_version, model)
);
CREATE INDEX IF NOT EXISTS classifications_violates_idx ON public.classifications (audio_id) WHERE violates;

-- Since version 6: which text was judged, what the clip says or its translation into English, and the hash of that text's
-- UTF-8 (null: judged by an earlier release). By the hash an equal text finds the score that it was given last.
ALTER TABLE public.classifications ADD COLUMN IF NOT EXISTS judged text NOT NULL DEFAULT 'transcript'
    CHECK (judged IN ('transcript', 'translation'));
ALTER TABLE public.classifications ADD COLUMN IF NOT EXISTS text_sha256 text;
-- The hash in the index keeps it small; the query compares the columns as well.
CREATE INDEX IF NOT EXISTS classifications_score_idx ON public.classifications
    (hashtextextended(text_sha256 || policy_sha256 || model || prompt_version, 0), created_at)
    WHERE text_sha256 IS NOT NULL;
-- Since version 8: the clips that a policy has flagged, the newest first.
CREATE INDEX IF NOT EXISTS classifications_flagged_idx ON public.classifications (policy, audio_id) WHERE violates;
-- Verdicts of an earlier release on a clip that was not judged before: that release does not say that it is judged now.
UPDATE public.transcripts t SET not_judged = NULL
WHERE t.not_judged IS NOT NULL AND EXISTS (
    SELECT FROM public.classifications c
    WHERE c.audio_id = t.audio_id AND c.transcript_id = t.transcript_id AND c.created_at >= t.created_at);

-- Since version 6: the text of every policy version that a worker has ever judged by. A version's text never changes: a
-- worker whose file says otherwise does not start. Append-only: the pipeline's role may insert and read, nothing else.
CREATE TABLE IF NOT EXISTS public.policies (
    policy        text NOT NULL,
    version       text NOT NULL,
    sha256        text NOT NULL,                     -- of the text's UTF-8
    title         text NOT NULL,
    text          text NOT NULL,                     -- the Markdown below the file's front matter
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (policy, version)
);

-- What operators changed with the command line: a row when a change begins, another when it has ended, which names the
-- first in details.begun. Append-only: the pipeline's role may insert and read, nothing else.
CREATE TABLE IF NOT EXISTS public.operator_actions (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    who       text NOT NULL,                         -- login name and host
    action    text NOT NULL,                         -- for example "failed retry"
    subject   text NOT NULL,                         -- what it was done to: a batch, a worker, a filter
    affected  integer CHECK (affected >= 0),         -- how many jobs, clips, objects ... were changed; null: it begins
    details   jsonb NOT NULL DEFAULT '{}'
);

-- Since version 5: the verdict in force, which is the one that was judged last, of whatever version of the policy and
-- whatever model. The only place that says so: the queue below, the workers and the RA app read it here.
CREATE OR REPLACE VIEW public.verdicts_in_force AS
SELECT DISTINCT ON (audio_id, policy)
       classification_id, audio_id, transcript_id, policy, policy_version, policy_sha256, model, prompt_version,
       violates, score, threshold, mass, truncated, created_at, judged
FROM public.classifications
ORDER BY audio_id, policy, created_at DESC, classification_id DESC;

-- The clips that reviewers see: at least one policy's verdict in force says that it is violated. A clip that is done again
-- stays in the queue with its older verdict until the new one is there, whatever its status is meanwhile. It leaves the
-- queue when it is found to hold no speech, or no speech in a language that is judged.
CREATE OR REPLACE VIEW public.ra_queue AS
WITH flagged AS (
    SELECT audio_id,
           array_agg(policy ORDER BY score DESC, policy) AS policies,
           max(score) AS score,
           (array_agg(transcript_id ORDER BY created_at DESC, classification_id DESC))[1] AS transcript_id,
           max(created_at) AS judged_at
    FROM public.verdicts_in_force
    WHERE violates
    GROUP BY audio_id
)
SELECT a.audio_id, a.batch_id, a.original_filename, a.s3_opus_path, a.duration_s, a.processed_at,
       t.text AS transcript, t.language, t.segments, f.policies, f.score, t.finding, t.reasons
FROM flagged f
JOIN public.audio_files a USING (audio_id)
JOIN public.transcripts t ON t.transcript_id = f.transcript_id
WHERE a.status <> 'no_speech' AND a.s3_opus_path IS NOT NULL
  AND coalesce(f.judged_at > (
    SELECT max(n.created_at) FROM public.transcripts n WHERE n.audio_id = f.audio_id AND n.not_judged IS NOT NULL), true);

-- Rights. No DELETE and no TRUNCATE for the pipeline: results are added and updated, never removed by a worker.
GRANT USAGE ON SCHEMA public TO pipeline, ra_app;
GRANT SELECT, INSERT, UPDATE ON public.batches, public.audio_files, public.transcripts, public.classifications TO pipeline;
GRANT SELECT ON public.schema_version, public.verdicts_in_force, public.ra_queue TO pipeline;
GRANT SELECT, INSERT ON public.operator_actions, public.policies TO pipeline;
GRANT USAGE, SELECT, UPDATE ON SEQUENCE public.audio_files_audio_id_seq TO pipeline;
GRANT SELECT ON public.batches, public.audio_files, public.transcripts, public.classifications, public.policies,
    public.schema_version, public.verdicts_in_force, public.ra_queue TO ra_app;

INSERT INTO public.schema_version (version) VALUES (1), (2), (3), (4), (5), (6), (7), (8) ON CONFLICT DO NOTHING;
COMMIT;
